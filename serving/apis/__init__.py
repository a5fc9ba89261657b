"""TF Serving's API without TensorFlow, as both ends of a connection and the export need it.

`messages` and `services`, the `tensors` codec, the `status` codes, the configuration files (`server_configs`) and the
`self_test` archive. Source of the API: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""
