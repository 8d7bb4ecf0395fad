"""The parts of scripts/study_cifar10.py: its rows, and how each is trained and measured."""
