"""The system around them: data, start-up, scaling, use of the hardware."""
