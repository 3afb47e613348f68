{{/* The release's name, with the chart's in it once. */}}
{{- define "sundog.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "sundog.operator" -}}
{{- printf "%s-operator" (include "sundog.fullname" .) -}}
{{- end -}}

{{- define "sundog.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "sundog.operator" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "sundog.selector" -}}
app.kubernetes.io/name: sundog-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sundog.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "sundog.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: sundog
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Name of an image; takes a list of its values and the tag that an empty one means. */}}
{{- define "sundog.image" -}}
{{- $image := index . 0 -}}
{{- $tag := $image.tag | default (ternary "" (index . 1) (not (empty $image.digest))) -}}
{{- $image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* What the operator needs wherever it serves LLMDeployments. No list, watch, get or delete of Secrets: it only creates. */}}
{{- define "sundog.rules" -}}
- apiGroups: [sundog.dev]
  resources: [llmdeployments]
  verbs: [get, list, watch]
- apiGroups: [sundog.dev]
  resources: [llmdeployments/status]
  verbs: [patch]
# To zero and from there; every other number is the autoscaler's.
- apiGroups: [sundog.dev]
  resources: [llmdeployments/scale]
  verbs: [update]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
# Owner references that block their owner's deletion are refused without it on some clusters (OpenShift).
- apiGroups: [sundog.dev]
  resources: [llmdeployments/finalizers]
  verbs: [update]
# What belongs to a revision is deleted with it; the rest goes with its LLMDeployment, by the garbage collector.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# What each revision was formed by, and what became of it.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# A pod that is to go first is marked; the Deployment's controller deletes it.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
