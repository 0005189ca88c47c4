"""What stands on disk is kept as long as the code that made it says the same."""

from cellwatch.nodes import sources
from cellwatch.nodes.sources import code_digest, write_whole


def test_only_code_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    (tmp_path / "a").mkdir()

    def digest(text):
        (tmp_path / "a" / "m.py").write_text(text)
        code_digest.cache_clear()
        return code_digest("a")

    plain = digest("def f(x):\n    return x + 1\n")
    assert digest('def f(x):\n    """What."""\n    return x + 1  # why\n') == plain
    assert digest("def f(x):\n    return x + 2\n") != plain
    code_digest.cache_clear()


def test_a_file_appears_whole_and_leaves_nothing(tmp_path):
    write_whole(tmp_path / "f", b"1")
    write_whole(tmp_path / "f", b"2")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"2")]
