"""The client's limits and defaults, in one place: the library and the commands' options read them here."""

from __future__ import annotations

# The deadline of one request, in seconds.
TIMEOUT = 10.0

# Images a request and requests in flight: they suit pictures, whose decoding takes most of the time.
BATCH_SIZE = 256
CONCURRENCY = 4
# A thread each; more than this on one connection only wait for each other.
MAX_CONCURRENCY = 256
# Requests a second of an open loop: far above what a process of the client sends.
MAX_RATE = 100_000

# A gRPC peer accepts 4 MiB a message by default (gRPC's GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH); 64 KiB of them are kept
# for names and lengths.
MESSAGE_BYTES = 4 * 1024 * 1024 - 64 * 1024
# A protobuf message ends at 2 GiB, and so does what TF Serving takes; a MiB of it is kept for names and lengths
# (https://protobuf.dev/programming-guides/encoding/#size-limit).
PROTO_BYTES = 2**31 - 2**20
# A REST body that fits into one Ethernet packet gains nothing from gzip; TF Serving unpacks 100 MB at most.
GZIP_BYTES = 1400
MAX_GZIP_BYTES = 100 * 1000 * 1000

# UNAVAILABLE is tried again until every address was asked this often; the pause, in seconds, doubles each time.
ROUNDS = 3
FIRST_PAUSE = 0.05
# A server that did not answer in its share of a deadline is asked last for so many seconds.
HUNG_SECONDS = 30.0

# Pillow warns above this many pixels and refuses twice as many; a picture for 784 pixels needs neither.
PICTURE_PIXELS = 89_478_485
# A picture that is sent to the page; a photograph of a telephone has some 10 MB.
UPLOAD_BYTES = 32 * 1024 * 1024
# Standard input is read whole, since its first bytes say what it is.
STDIN_BYTES = 256 * 1024 * 1024

# A figure with more pictures than this cannot be read.
FIGURE_IMAGES = 60
