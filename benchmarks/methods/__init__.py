"""Methods on masks, codes and maps."""
