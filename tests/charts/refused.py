"""Values that the charts must refuse: the file of ci/ that they are laid over, how they are set, and what the message must name.

A message is searched with dots for slashes, since Helm 3 writes `app.image` where Helm 4 writes `/app/image`.
"""


def is_set(base, value, *names):
    """One value, told from the command line."""
    return base, ["--set", value], names


def is_json(base, value, *names):
    """One value as JSON."""
    return base, ["--set-json", value], names


CASES = [
    is_set("minimal", "replicas=2", "topology", "companion"),
    is_set("minimal", "topology=cluster", "topology", "sidecar", "companion"),
    is_set("minimal", "app.image.repository=", "app.image.repository"),
    is_json("minimal", 'app.image.tag=""', "app.image"),
    is_set("minimal", "app.enabled=false", "app.enabled"),
    is_set("minimal", "outrigger.image.repository=", "image.repository"),
    is_set("minimal", "app.image.pullPolicy=Sometimes", "pullPolicy"),
    is_set("minimal", "replica=1", "replica"),
    is_set("minimal", "app.imagee=1", "imagee"),
    is_set("minimal", "outrigger.nodes=flights", "nodes"),
    is_set("minimal", "outrigger.limits.mem=1GiB", "mem"),
    is_set("minimal", "outrigger.node=Flights", "node"),
    is_set("minimal", "outrigger.node=" + "n" * 43, "node"),
    is_set("minimal", "outrigger.grpc.port=70000", "grpc.port"),
    is_set("minimal", "outrigger.grpc.port=http", "grpc.port"),
    is_set("minimal", "outrigger.grpc.expose=true", "grpc", "existingSecret"),
    is_json("minimal", 'outrigger.grpc={"expose":true,"socket":true,"tokens":{"existingSecret":"t"}}', "grpc.socket"),
    is_json("minimal", 'outrigger.grpc={"expose":true,"tls":{"existingSecret":"t"}}', "clientCaKey"),
    is_set("minimal", "outrigger.limits.memory=lots", "limits.memory"),
    is_set("minimal", "outrigger.limits.builds=65", "limits.builds"),
    is_set("minimal", "outrigger.limits.readerStall=soon", "limits.readerStall"),
    is_set("minimal", "outrigger.log.scrub=daily", "log.scrub"),
    is_set("minimal", "outrigger.telemetry.logFormat=xml", "telemetry.logFormat"),
    is_set("minimal", "outrigger.telemetry.otlp.endpoint=collector", "telemetry.otlp.endpoint"),
    is_set("minimal", "outrigger.telemetry.otlp.sample=2", "telemetry.otlp.sample"),
    is_set("minimal", "outrigger.telemetry.otlp.metricsInterval=often", "telemetry.otlp.metricsInterval"),
    is_set("minimal", "outrigger.restore.epoch=-1", "restore.epoch"),
    is_set("minimal", "outrigger.mesh.nats.url=http://nats", "mesh.nats.url"),
    is_set("minimal", "outrigger.bindAddress=everywhere", "bindAddress"),
    is_set("minimal", "outrigger.persistence.size=big", "persistence.size"),
    is_json("minimal", 'outrigger.persistence.accessModes=["ReadWriteMany"]', "persistence.accessModes"),
    is_set("minimal", r"outrigger.projections.files.board\.txt=x", "board.txt"),
    is_json("minimal", 'outrigger.extraEnv=[{"value":"1"}]', "extraEnv"),
    is_set("minimal", "outrigger.image.digest=sha256:12", "image.digest"),
    is_set("minimal", "outrigger.resources.limits.memory=1GB", "resources.limits.memory"),
    is_set("minimal", "pod.terminationGracePeriodSeconds=-1", "terminationGracePeriodSeconds"),
    is_set("minimal", "backup.enabled=true,backup.existingClaim=b", "expose"),
    is_json("minimal", 'jobs.load={"args":["load"]}', "expose"),
    is_json("minimal", 'app.releases.green={"definitions":{}}', "topology", "companion"),
    is_set("mesh", "outrigger.mesh.keySecret=", "mesh.keySecret"),
    is_json("mesh", 'outrigger.mesh.trust={"existingConfigMap":""}', "mesh.trust"),
    is_set("companion", "outrigger.grpc.tokens.existingSecret=", "grpc", "existingSecret"),
    is_set("companion", "outrigger.grpc.socket=true", "grpc.socket"),
    is_set("jobs", "backup.existingClaim=", "backup.existingClaim"),
    is_json("jobs", 'jobs.empty={"args":[]}', "jobs.empty.args"),
    is_json("jobs", 'jobs.root={"args":["load"],"token":"root"}', "jobs.root.token"),
    is_json("blue-green", 'app.releases.red={"replicas":1}', "definitions"),
    is_set("blue-green", "app.service.release=red", "app.service.release", "red"),
]
