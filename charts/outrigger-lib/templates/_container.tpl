{{- /* The node's container, and that which applies a release. */ -}}

{{- define "outrigger-lib.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ int .port }}
periodSeconds: {{ int .values.periodSeconds }}
timeoutSeconds: {{ int .values.timeoutSeconds }}
failureThreshold: {{ int .values.failureThreshold }}
{{- end -}}

{{- define "outrigger-lib.containerBody" -}}
{{- $values := .Values.outrigger -}}
image: {{ include "outrigger-lib.image" . | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args:
  - serve
  - --config
  - /etc/outrigger/config/outrigger.yaml
  {{- with $values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.extraEnv }}
env:
  {{- include "outrigger-lib.mergeEnv" (list .) | nindent 2 }}
{{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- if include "outrigger-lib.exposed" . }}
  - name: grpc
    containerPort: {{ int $values.grpc.port }}
    protocol: TCP
  {{- end }}
  - name: http-outrigger
    containerPort: {{ int $values.http.port }}
    protocol: TCP
startupProbe:
  {{- include "outrigger-lib.probe" (dict "path" "/startupz" "port" $values.http.port "values" $values.probes.startup) | nindent 2 }}
readinessProbe:
  {{- include "outrigger-lib.probe" (dict "path" "/readyz" "port" $values.http.port "values" $values.probes.readiness) | nindent 2 }}
livenessProbe:
  {{- include "outrigger-lib.probe" (dict "path" "/healthz" "port" $values.http.port "values" $values.probes.liveness) | nindent 2 }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.securityContext | nindent 2 }}
volumeMounts:
  {{- include "outrigger-lib.volumeMounts" . | nindent 2 }}
{{- end -}}

{{- /* An item of `initContainers`: a native sidecar, which starts before the service's containers and ends after them. */ -}}
{{- define "outrigger-lib.sidecar" -}}
- name: outrigger
  restartPolicy: Always
  {{- include "outrigger-lib.containerBody" . | nindent 2 }}
{{- end -}}

{{- /* An item of `containers`, where the node has a pod of its own. */ -}}
{{- define "outrigger-lib.container" -}}
- name: outrigger
  {{- include "outrigger-lib.containerBody" . | nindent 2 }}
{{- end -}}

{{- /* A command of the image in another pod, without `token` one that talks to no node by gRPC: (dict "root" $ "name" N "args" LIST "token" app|admin "mounts" LIST "env" LIST "resources" MAP) */ -}}
{{- define "outrigger-lib.command" -}}
{{- $values := .root.Values.outrigger -}}
- name: {{ .name }}
  image: {{ include "outrigger-lib.image" .root | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    {{- toYaml .args | nindent 4 }}
  {{- $mounts := .mounts }}
  {{- if .token }}
  env:
    {{- include "outrigger-lib.mergeEnv" (list (include "outrigger-lib.commandEnv" . | fromYamlArray) .env) | nindent 4 }}
  {{- if $values.grpc.tls.clientSecret }}
  {{- $mounts = append (default list $mounts) (dict "name" "outrigger-client" "mountPath" "/etc/outrigger/client" "readOnly" true) }}
  {{- end }}
  {{- end }}
  resources:
    {{- toYaml (default (dict "requests" (dict "cpu" "10m" "memory" "32Mi") "limits" (dict "memory" "128Mi")) .resources) | nindent 4 }}
  securityContext:
    {{- toYaml $values.securityContext | nindent 4 }}
  {{- with $mounts }}
  volumeMounts:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* The volumes that commands mount by themselves: a list that may be empty. */ -}}
{{- define "outrigger-lib.commandVolumes" -}}
{{- with .Values.outrigger.grpc.tls.clientSecret }}
{{ include "outrigger-lib.secretVolume" (dict "name" "client" "object" .) }}
{{- end }}
{{- end -}}

{{- /* An item of `initContainers`: (dict "root" $ "release" green). Its definitions are the volume `outrigger-release`. */ -}}
{{- define "outrigger-lib.releaseApply" -}}
{{- $args := list "release" "apply" "--dir" "/etc/outrigger/release" "--release" .release "--wait" -}}
{{- $mounts := list (dict "name" "outrigger-release" "mountPath" "/etc/outrigger/release" "readOnly" true) -}}
{{- include "outrigger-lib.command" (dict "root" .root "name" "release-apply" "args" $args "token" "app" "mounts" $mounts "env" list) -}}
{{- end -}}

{{- /* What a pod with the node needs beside containers and volumes. */ -}}
{{- define "outrigger-lib.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.outrigger.podSecurityContext | nindent 2 }}
{{- end -}}
