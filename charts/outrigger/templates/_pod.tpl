{{- /* Names, labels and the parts of pods. */ -}}

{{- define "outrigger.app.fullname" -}}
{{- default (.Release.Name | replace "." "-" | lower) .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "outrigger.app.selectorLabels" -}}
app.kubernetes.io/name: {{ include "outrigger.app.fullname" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "outrigger.app.labels" -}}
{{ include "outrigger.app.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* The labels by which the pod of the node is found: the service's own beside a sidecar. */ -}}
{{- define "outrigger.node.selectorLabels" -}}
{{- if eq .Values.topology "companion" -}}
{{ include "outrigger-lib.selectorLabels" . }}
{{- else -}}
{{ include "outrigger.app.selectorLabels" . }}
{{- end -}}
{{- end -}}

{{- define "outrigger.node.podLabels" -}}
{{ include "outrigger.node.selectorLabels" . }}
outrigger/node: {{ include "outrigger-lib.node" . }}
{{- with .Values.pod.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Placement and the rest of a pod: VALUES of `pod` */ -}}
{{- define "outrigger.podOptions" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "imagePullSecrets" }}
{{- with index $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- end -}}

{{- /* The service's container: (dict "root" $ "image" IMAGE "env" LIST) */ -}}
{{- define "outrigger.app.container" -}}
{{- $root := .root -}}
{{- $app := $root.Values.app -}}
- name: {{ include "outrigger.app.fullname" $root }}
  image: {{ include "outrigger-lib.imageOf" (dict "image" .image "tag" "") | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  {{- range $key := list "command" "args" "envFrom" "ports" "resources" "startupProbe" "readinessProbe" "livenessProbe" "lifecycle" }}
  {{- with index $app $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  env:
    {{- include "outrigger-lib.mergeEnv" (list (include "outrigger-lib.clientEnv" $root | fromYamlArray) .env $app.env) | nindent 4 }}
  {{- with $app.securityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $socket := and $root.Values.outrigger.grpc.socket (eq $root.Values.topology "sidecar") }}
  {{- if or $socket $app.volumeMounts }}
  volumeMounts:
    {{- if $socket }}
    {{- include "outrigger-lib.socketMount" $root | nindent 4 }}
    {{- end }}
    {{- with $app.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{- /* A pod that runs one command of outrigger: (dict "root" $ "job" VALUES "name" N) */ -}}
{{- define "outrigger.commandPod" -}}
metadata:
  labels:
    {{- include "outrigger-lib.labelsAs" (dict "root" .root "component" .name) | nindent 4 }}
spec:
  restartPolicy: Never
  {{- include "outrigger-lib.podSpec" .root | nindent 2 }}
  {{- with .root.Values.pod.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "outrigger-lib.command" (dict "root" .root "name" .name "args" .job.args "token" (default "app" .job.token) "env" (default list .job.env) "resources" .job.resources "mounts" .job.volumeMounts) | nindent 4 }}
  {{- $client := include "outrigger-lib.commandVolumes" .root | fromYamlArray }}
  {{- with concat (default list .job.volumes) $client }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
