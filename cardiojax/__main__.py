"""``python -m cardiojax``: the command line."""

from cardiojax.cli import run

if __name__ == "__main__":
    run()
