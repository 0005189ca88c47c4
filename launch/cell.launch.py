"""`ros2 launch cellwatch cell.launch.py`: the cell of `cellwatch run`, from the same table of nodes.

Arguments  config     cell file or the name of a shipped cell (demo)
           arm        true: write commands into the PLC (false)
           plant      sim, replay:FILE or none; empty: as the cell file says
           seed       of the simulated plant (0)
           dashboard  the operator's page (true)
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler, TimerAction
from launch.event_handlers import OnShutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from rich.console import Console

from cellwatch.nodes.cell import namespace, node_table, write_params
from cellwatch.nodes.cli import config_path
from cellwatch.nodes.runner import CellRun, RunOptions
from cellwatch.nodes.start import checked, models_for
from launch import LaunchContext, LaunchDescription

PLANT_STARTS_S = 10.0  # launch has no word for "all nodes are active", so the scenario waits this long


def _setup(context: LaunchContext) -> list[object]:
    def argument(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    options = RunOptions(
        arm=argument("arm").lower() == "true",
        seed=int(argument("seed")),
        dashboard=argument("dashboard").lower() == "true",
    )
    cell = checked(config_path(argument("config")), argument("plant") or None, options)
    console = Console(stderr=True)
    models = models_for(cell, console)
    run = CellRun(cell, options, console.print)
    run.prepare()
    table = node_table(
        run.cell,
        run.artifacts(models),
        armed=options.arm,
        commissioning_s=run.commissioning_s,
        dashboard=options.dashboard,
    )
    place = namespace(run.cell)
    actions: list[object] = [
        Node(
            package="cellwatch",
            executable=spec.executable,
            name=spec.name,
            namespace=place,
            parameters=[str(write_params(spec, place, run.run_folder))],
            respawn=True,
            respawn_delay=1.0,
        )
        for spec in table
    ]
    actions.append(
        Node(
            package="cellwatch",
            executable="cell_manager_node",
            name="cell_manager_node",
            namespace=place,
            parameters=[{"nodes": [spec.name for spec in table]}],
        )
    )
    if run.plant is not None:
        plant = run.plant
        actions.append(
            TimerAction(period=PLANT_STARTS_S, actions=[OpaqueFunction(function=lambda _: plant.begin())])
        )
        actions.append(RegisterEventHandler(OnShutdown(on_shutdown=lambda *_: run.shutdown())))
    return actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("config", default_value="demo", description="cell file or shipped cell"),
            DeclareLaunchArgument("arm", default_value="false", description="write commands into the PLC"),
            DeclareLaunchArgument("plant", default_value="", description="sim, replay:FILE or none"),
            DeclareLaunchArgument("seed", default_value="0", description="seed of the simulated plant"),
            DeclareLaunchArgument("dashboard", default_value="true", description="the operator's page"),
            OpaqueFunction(function=_setup),
        ]
    )
