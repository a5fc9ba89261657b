"""The LiteRT runtime, formerly TensorFlow Lite: `model.tflite` without TensorFlow."""
