"""From disk to batches: sources, loading, augmentation."""
