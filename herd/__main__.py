"""``python -m herd``: the command line where no ``herd`` command is at hand, as in ``torchrun -m herd pretrain``."""

from herd.cli import main

if __name__ == "__main__":
    main()
