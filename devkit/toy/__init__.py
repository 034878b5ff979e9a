"""The toy dataset: drawn figures that act, and the small networks trained on it."""
