"""Runs the suite on the oldest, pinned and newest torch: `nox`, or `nox -s "tests(2.9.1)"`."""

import nox

nox.options.sessions = ["tests"]


@nox.session
@nox.parametrize("torch", ["2.9.1", "2.13.0", "2.15.0"], ids=["2.9.1", "2.13.0", "2.15.0"])
def tests(session: nox.Session, torch: str) -> None:
    """Runs the suite on one release of torch. Its wheels may be several GB."""
    session.install(f"torch=={torch}", ".[test]")
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "worksteal", *session.posargs)
