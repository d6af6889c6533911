"""What comes in: models (ONNX files, PyTorch modules) as graphs, and data as batches."""
