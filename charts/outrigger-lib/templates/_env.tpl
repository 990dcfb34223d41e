{{- /* Environment. */ -}}

{{- /* One list out of several, each name once: the last one wins, in the place of the first. Takes (list LIST...). */ -}}
{{- define "outrigger-lib.mergeEnv" -}}
{{- $names := list -}}
{{- $byName := dict -}}
{{- range $env := . -}}
{{- range $env -}}
{{- if not (hasKey $byName .name) -}}{{- $names = append $names .name -}}{{- end -}}
{{- $_ := set $byName .name . -}}
{{- end -}}
{{- end -}}
{{- $merged := list -}}
{{- range $names -}}{{- $merged = append $merged (get $byName .) -}}{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{- /* Where clients in the same pod, or in others, find the node. */ -}}
{{- define "outrigger-lib.address" -}}
{{- if eq (toString .Values.topology) "companion" -}}
{{- printf "%s:%v" (include "outrigger-lib.fullname" .) (int .Values.outrigger.grpc.port) -}}
{{- else if .Values.outrigger.grpc.socket -}}
unix:/run/outrigger/outrigger.sock
{{- else -}}
{{- printf "127.0.0.1:%v" (int .Values.outrigger.grpc.port) -}}
{{- end -}}
{{- end -}}

{{- /* Where clients in other pods find it. */ -}}
{{- define "outrigger-lib.serviceAddress" -}}
{{- printf "%s:%v" (include "outrigger-lib.fullname" .) (int .Values.outrigger.grpc.port) -}}
{{- end -}}

{{- define "outrigger-lib.tokenEnv" -}}
{{- with .root.Values.outrigger.grpc.tokens -}}
{{- if .existingSecret }}
- name: OUTRIGGER_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ ternary .adminKey .appKey (eq $.token "admin") }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What a container needs to talk to the node: its address, and the token `app` where there are tokens. */ -}}
{{- define "outrigger-lib.clientEnv" -}}
- name: OUTRIGGER_ADDR
  value: {{ include "outrigger-lib.address" . | quote }}
{{- include "outrigger-lib.tokenEnv" (dict "root" . "token" "app") -}}
{{- end -}}

{{- /* The same for commands in other pods, as `app` or `admin`: (dict "root" $ "token" TOKEN) */ -}}
{{- define "outrigger-lib.commandEnv" -}}
- name: OUTRIGGER_ADDR
  value: {{ include "outrigger-lib.serviceAddress" .root | quote }}
{{- include "outrigger-lib.tokenEnv" . -}}
{{- with .root.Values.outrigger.grpc.tls -}}
{{- if .clientSecret }}
- name: OUTRIGGER_TLS_CA
  value: /etc/outrigger/client/ca.crt
{{- if .clientCaKey }}
- name: OUTRIGGER_TLS_CERT
  value: /etc/outrigger/client/tls.crt
- name: OUTRIGGER_TLS_KEY
  value: /etc/outrigger/client/tls.key
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}
