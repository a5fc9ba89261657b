"""TF Serving's wire API without TensorFlow: `messages`, `services` and the `tensors` codec.

Shared by the client and the embedded server. Source of the API:
https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""
