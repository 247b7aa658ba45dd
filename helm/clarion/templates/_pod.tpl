{{/* What the pods of the gateway and of `helm test` have in common, and how many of the former there are. */}}

{{/*
How many pods to ask for. Under an autoscaler the number that there is: left out, an upgrade would reset it to one, and
another number would be fought over. At the first install the least; where the cluster cannot be asked, none.
*/}}
{{- define "clarion.replicas" -}}
{{- if eq .Values.autoscaling.mode "none" -}}
{{- .Values.replicas -}}
{{- else if .Values.autoscaling.seedReplicas -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "clarion.fullname" .) | default dict -}}
{{- dig "spec" "replicas" (ternary .Values.autoscaling.minReplicas "" .Release.IsInstall) $live -}}
{{- end -}}
{{- end -}}

{{/* Volumes with secrets: as files, so that they are in no environment and in no list of processes. */}}
{{- define "clarion.secretVolumes" -}}
{{- with include "clarion.secretSources" . | trim }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with .Values.redis.tls.existingSecret }}
- name: redis-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "clarion.volumes" -}}
- name: config
  configMap:
    name: {{ include "clarion.fullname" . }}
{{- include "clarion.secretVolumes" . }}
{{- end -}}

{{- define "clarion.secretMounts" -}}
{{- if include "clarion.secretSources" . | trim }}
- {name: secrets, mountPath: {{ include "clarion.secretsPath" . }}, readOnly: true}
{{- end }}
{{- if .Values.redis.tls.existingSecret }}
- {name: redis-tls, mountPath: {{ include "clarion.redisTlsPath" . }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "clarion.volumeMounts" -}}
- {name: config, mountPath: /etc/clarion/config, readOnly: true}
{{- include "clarion.secretMounts" . }}
{{- end -}}
