# Lockstep: the same instructions under QEMU TCG and here, compared after every one. See run.py for the command.
