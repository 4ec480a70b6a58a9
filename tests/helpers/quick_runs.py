"""The small versions of reproductions, as their tests run them."""

from quickstudy.reproduce.base import Work


def quick_rows(tmp_path_factory, reproduction, pictures=("",)):
    """The rows of the small version, which must have drawn a picture for each of these endings of its name."""
    folder = tmp_path_factory.mktemp(reproduction.name)
    work = Work(folder / "runs", folder / "picture", quick=True, progress=False, tell=lambda line: None)
    found = reproduction.run(work)
    assert all((folder / f"picture{ending}.png").stat().st_size > 0 for ending in pictures)
    return found
