{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "tidegate.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tidegate.tokenSecret" -}}
{{- if .Values.adminToken.existingSecret }}
{{- .Values.adminToken.existingSecret }}
{{- else if .Values.adminToken.value }}
{{- printf "%s-admin" (include "tidegate.fullname" .) }}
{{- else }}
{{- fail (printf "adminToken: set existingSecret to the name of a secret with the key admin-token, or set value; make one with: kubectl -n %s create secret generic tidegate-admin --from-literal=admin-token=\"$(openssl rand -base64 32)\"" .Release.Namespace) }}
{{- end }}
{{- end }}

{{/* What the chart decides, under what the values say. */}}
{{- define "tidegate.config" -}}
{{- $shutdown := dict "lame_duck_ms" (mul .Values.shutdown.lameDuckSeconds 1000 | int) "grace_ms" (mul .Values.shutdown.graceSeconds 1000 | int) }}
{{- $full := include "tidegate.fullname" . }}
{{- $hosts := list $full (printf "%s-admin" $full) (printf "%s-admin.%s" $full .Release.Namespace) (printf "%s-admin.%s.svc" $full .Release.Namespace) }}
{{- $ours := dict
  "listen" (dict "address" "0.0.0.0:8080" "shutdown" $shutdown)
  "admin" (dict "address" "0.0.0.0:9090" "token_file" "/run/secrets/admin/admin-token" "hosts" $hosts) }}
{{- if .Values.persistence.enabled }}
{{- $_ := set $ours "state" (dict "dir" "/var/lib/tidegate") }}
{{- end }}
{{- toYaml (mustMergeOverwrite $ours (deepCopy .Values.config)) }}
{{- end }}
