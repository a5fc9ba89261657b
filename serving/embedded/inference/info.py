"""GetModelMetadata and GetModelStatus."""

from __future__ import annotations

from serving.apis.messages import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    SignatureDefMap,
)
from serving.apis.status import Code
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.core import ServerCore
from serving.embedded.models.versions import VersionStatus
from serving.errors import InvalidArgument, NotFound

SIGNATURE_DEF = "signature_def"


def metadata(core: ServerCore[LoadedModel], request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """The signatures of a version. Raises ServingError."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    if not request.metadata_field:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise InvalidArgument(f"Metadata field {field} is not supported")
    with core.use(request.model_spec) as version:
        response = GetModelMetadataResponse(model_spec=version.servable.spec())
        definitions = {name: signature.definition for name, signature in version.servable.signatures.items()}
        signatures = SignatureDefMap(signature_def=definitions)
        response.metadata[SIGNATURE_DEF].Pack(signatures, deterministic=True)
    return response


def status(core: ServerCore[LoadedModel], request: GetModelStatusRequest) -> GetModelStatusResponse:
    """The state of a version, or of all versions newest first; a label is ignored, as in TF Serving.

    Raises ServingError.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    spec = request.model_spec
    statuses = core.manager.statuses(spec.name)
    if spec.WhichOneof("version_choice") == "version":
        statuses = [status for status in statuses if status.version == spec.version.value]
        if not statuses:
            raise NotFound(f"Could not find version {spec.version.value} of model {spec.name}")
    if not statuses:
        raise NotFound(_no_versions(core, spec))
    return GetModelStatusResponse(model_version_status=map(_message, statuses))


def _no_versions(core: ServerCore[LoadedModel], spec: ModelSpec) -> str:
    error = core.errors().get(spec.name)
    return f"Could not find any versions of model {spec.name}" + (f": {error}" if error else "")


def _message(status: VersionStatus) -> ModelVersionStatus:
    message = ModelVersionStatus(version=status.version, state=int(status.state))
    message.status.error_code = int(status.error.code if status.error else Code.OK)
    message.status.error_message = str(status.error or "")
    return message
