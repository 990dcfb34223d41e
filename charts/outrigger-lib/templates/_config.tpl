{{- /* The node's settings as a file: keys of docs/configuration.md, rendered where a value is set. */ -}}

{{- /* `true` where there are definitions: (list .Values.outrigger.exports) */ -}}
{{- define "outrigger-lib.hasFiles" -}}
{{- if or .files .existingConfigMap -}}true{{- end -}}
{{- end -}}

{{- define "outrigger-lib.grpcConfig" -}}
{{- $values := .Values.outrigger -}}
{{- if include "outrigger-lib.exposed" . }}
listen: {{ include "outrigger-lib.hostPort" (dict "host" $values.bindAddress "port" (int $values.grpc.port)) | quote }}
{{- else if $values.grpc.socket }}
listen: unix:/run/outrigger/outrigger.sock
{{- else }}
listen: {{ printf "127.0.0.1:%d" (int $values.grpc.port) | quote }}
{{- end }}
{{- if $values.grpc.tokens.existingSecret }}
token_file: /etc/outrigger/tokens/{{ $values.grpc.tokens.fileKey }}
{{- end }}
{{- with $values.grpc.tls }}
{{- if .existingSecret }}
tls:
  cert_file: /etc/outrigger/tls/{{ .certKey }}
  key_file: /etc/outrigger/tls/{{ .privateKey }}
  {{- if .clientCaKey }}
  client_ca_file: /etc/outrigger/tls/{{ .clientCaKey }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "outrigger-lib.meshConfig" -}}
{{- with .Values.outrigger.mesh }}
{{- if or .nats.url .nats.credsSecret }}
nats:
  {{- if .nats.url }}
  url: {{ .nats.url | quote }}
  {{- end }}
  {{- if .nats.credsSecret }}
  creds_file: /etc/outrigger/nats/{{ .nats.credsKey }}
  {{- end }}
{{- end }}
{{- if .keySecret }}
key_file: /etc/outrigger/mesh-key/{{ .keyKey }}
{{- end }}
{{- if or .trust.existingConfigMap .trust.existingSecret }}
trust_file: /etc/outrigger/trust/{{ .trust.key }}
{{- end }}
{{- if .createStream }}
create_stream: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "outrigger-lib.config" -}}
{{- $values := .Values.outrigger -}}
{{- $config := dict "node" (include "outrigger-lib.node" .) "data_dir" "/var/lib/outrigger/data" -}}
{{- $_ := set $config "grpc" (include "outrigger-lib.grpcConfig" . | fromYaml) -}}
{{- $_ := set $config "http" (dict "listen" (include "outrigger-lib.hostPort" (dict "host" $values.bindAddress "port" (int $values.http.port)))) -}}
{{- $_ := set $config "projections" (dict "dir" "/etc/outrigger/projections") -}}
{{- range $what := list "exports" "imports" -}}
{{- if include "outrigger-lib.hasFiles" (index $values $what) -}}
{{- $_ := set $config $what (dict "dir" (printf "/etc/outrigger/%s" $what)) -}}
{{- end -}}
{{- end -}}
{{- $groups := dict "owns" dict "limits" dict "log" dict "telemetry" dict "restore" dict -}}
{{- with $values.owns.types -}}{{- $_ := set $groups.owns "types" . -}}{{- end -}}
{{- with $values.owns.streams -}}{{- $_ := set $groups.owns "streams" . -}}{{- end -}}
{{- $_ := set $groups "mesh" (include "outrigger-lib.meshConfig" . | fromYaml) -}}
{{- with $values.limits.memory -}}{{- $_ := set $groups.limits "memory" . -}}{{- end -}}
{{- with $values.limits.readerStall -}}{{- $_ := set $groups.limits "reader_stall" . -}}{{- end -}}
{{- with $values.limits.builds -}}{{- $_ := set $groups.limits "builds" (int .) -}}{{- end -}}
{{- with $values.log.lowWater -}}{{- $_ := set $groups.log "low_water" . -}}{{- end -}}
{{- with $values.log.scrub -}}{{- $_ := set $groups.log "scrub" . -}}{{- end -}}
{{- with $values.telemetry.log -}}{{- $_ := set $groups.telemetry "log" . -}}{{- end -}}
{{- with $values.telemetry.logFormat -}}{{- $_ := set $groups.telemetry "log_format" . -}}{{- end -}}
{{- with $values.telemetry.otlp -}}
{{- if .endpoint -}}
{{- $otlp := dict "endpoint" .endpoint -}}
{{- if not .traces -}}{{- $_ := set $otlp "traces" false -}}{{- end -}}
{{- if ne (float64 .sample) 1.0 -}}{{- $_ := set $otlp "sample" .sample -}}{{- end -}}
{{- if .metricsInterval -}}{{- $_ := set $otlp "metrics_interval" .metricsInterval -}}{{- end -}}
{{- $_ := set $groups.telemetry "otlp" $otlp -}}
{{- end -}}
{{- end -}}
{{- with $values.restore.epoch -}}{{- $_ := set $groups.restore "epoch" (int .) -}}{{- end -}}
{{- range $name, $group := $groups -}}
{{- if $group -}}{{- $_ := set $config $name $group -}}{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy $values.extraConfig)) -}}
{{- end -}}

{{- /* What rolls the pod: settings and, by their names and `keysRevision`, keys. New definitions do not. */ -}}
{{- define "outrigger-lib.podAnnotations" -}}
outrigger/config-checksum: {{ include "outrigger-lib.config" . | sha256sum }}
{{- with .Values.outrigger.keysRevision }}
outrigger/keys-revision: {{ . | quote }}
{{- end }}
{{- end -}}
