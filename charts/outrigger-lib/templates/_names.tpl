{{- /* Names and labels. Every template takes the root context; the values of the node are below `.Values.outrigger`. */ -}}

{{- define "outrigger-lib.node" -}}
{{- $node := default (.Release.Name | replace "." "-" | lower) .Values.outrigger.node -}}
{{- if gt (len $node) 42 -}}
{{- fail (printf "outrigger.node: expected at most 42 characters, found %d in %q; set outrigger.node to a shorter name" (len $node) $node) -}}
{{- end -}}
{{- $node -}}
{{- end -}}

{{- /* The objects of a node are named after it: two releases with one node name in a namespace refuse each other. */ -}}
{{- define "outrigger-lib.fullname" -}}
{{- printf "%s-outrigger" (include "outrigger-lib.node" .) -}}
{{- end -}}

{{- define "outrigger-lib.selectorLabels" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: outrigger
{{- end -}}

{{- define "outrigger-lib.labels" -}}
{{ include "outrigger-lib.labelsAs" (dict "root" . "component" "outrigger") }}
{{- end -}}

{{- /* The same for another component of the node, a job say, whose pods no Service leads to. */ -}}
{{- define "outrigger-lib.labelsAs" -}}
{{- with .root -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ $.component }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
outrigger/node: {{ include "outrigger-lib.node" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- /* `true` where other pods may call. A chart whose values have `topology: companion` runs the node in a pod of its own. */ -}}
{{- define "outrigger-lib.exposed" -}}
{{- if or .Values.outrigger.grpc.expose (eq (toString .Values.topology) "companion") -}}true{{- end -}}
{{- end -}}

{{- /* (dict "image" VALUES "tag" DEFAULT) */ -}}
{{- define "outrigger-lib.imageOf" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .tag $image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{- define "outrigger-lib.image" -}}
{{- include "outrigger-lib.imageOf" (dict "image" .Values.outrigger.image "tag" "0.1.0") -}}
{{- end -}}

{{- /* host:port with brackets around an IPv6 address: (dict "host" H "port" P) */ -}}
{{- define "outrigger-lib.hostPort" -}}
{{- if contains ":" .host -}}[{{ .host }}]:{{ .port }}{{- else -}}{{ .host }}:{{ .port }}{{- end -}}
{{- end -}}
