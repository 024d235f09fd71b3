"""The objective as one ONNX graph, run by ONNX Runtime or OpenVINO."""
