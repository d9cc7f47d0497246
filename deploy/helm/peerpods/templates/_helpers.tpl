{{/* Labels of all that the chart makes. */}}
{{- define "peerpods.labels" -}}
app.kubernetes.io/name: peerpods
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels of the operator's pods, by which its Deployment finds them: they can never change. */}}
{{- define "peerpods.operator.selector" -}}
app.kubernetes.io/name: peerpods
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of pods that the operator makes; the argument is the component. */}}
{{- define "peerpods.component.selector" -}}
app.kubernetes.io/component: {{ . }}
app.kubernetes.io/managed-by: peerpods-operator
{{- end }}

{{/* An image's reference; the arguments are the root and the image's values. */}}
{{- define "peerpods.image" -}}
{{- $images := (index . 0).Values.images -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $images.registry }}/{{ $image.name }}@{{ $image.digest }}
{{- else -}}
{{ $images.registry }}/{{ $image.name }}:{{ $images.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What every service account says of pulling images. */}}
{{- define "peerpods.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}
