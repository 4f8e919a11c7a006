"""Small real trainings on which learning rates are judged, and what is known about them by brute force."""
