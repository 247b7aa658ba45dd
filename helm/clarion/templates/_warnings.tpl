{{/* What is allowed but should be known, a line each. */}}
{{- define "clarion.warnings" -}}
{{- $config := (include "clarion.given" . | fromYaml) -}}
{{- $resolved := include "clarion.resolved" . | fromYaml -}}
{{- if eq (include "clarion.brokerType" .) "memory" }}
WARNING: config.broker.type is memory: one node, and what it keeps is gone when it is replaced. Set it to redis for more.
{{- end }}
{{- if .Values.redis.dev.enabled }}
WARNING: redis.dev.enabled is not for production: one Redis, nothing on disk.
{{- end }}
{{- if ne .Values.redis.mode "standalone" }}
WARNING: redis.mode is {{ .Values.redis.mode }}: make sure that this version of Clarion knows it (clarion genconfig), it refuses to start else.
{{- end }}
{{- if and (gt (include "clarion.replicasMax" . | int) 1) (not .Values.pdb.enabled) }}
WARNING: pdb.enabled is false: all nodes may be evicted at once.
{{- end }}
{{- if and (ne .Values.autoscaling.mode "none") (lt (int .Values.autoscaling.minReplicas) 2) }}
WARNING: autoscaling.minReplicas is 1: an eviction leaves nobody to take the clients.
{{- end }}
{{- $isPlainIngress := and .Values.ingress.enabled (not .Values.ingress.tls) }}
{{- $isExposed := ne .Values.service.public.type "ClusterIP" }}
{{- $hasTls := include "clarion.hasTls" (dict "root" . "listener" "public") }}
{{- if or $isPlainIngress (and $isExposed (not $hasTls)) }}
WARNING: clients are served without TLS, so that tokens can be read on the way. Set ingress.tls or config.public.tls, or end TLS in front of it.
{{- end }}
{{- if dig "api" "insecure" false $config }}
WARNING: config.api.insecure is on: whoever reaches the internal port may publish and disconnect.
{{- end }}
{{- if dig "client" "insecure" false $config }}
WARNING: config.client.insecure is on: every client may do everything.
{{- end }}
{{- if not (dig "client" "allowed_origins" list $config) }}
WARNING: config.client.allowed_origins is empty: browsers will be refused.
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
WARNING: networkPolicy.enabled is false: every pod of the cluster reaches the internal port, which needs an API key for everything but metrics and health.
{{- end }}
{{- with $resolved.generated }}
WARNING: {{ join ", " . }} in Secret {{ include "clarion.secretName" $ }} was made up. Where charts are rendered without the cluster it changes each time: give it yourself, or name secrets.existingSecret.
{{- end }}
{{- if .Values.extraEnv }}
{{- range .Values.extraEnv }}
{{- if and (hasPrefix "CLARION__" .name) (regexMatch "(SECRET_KEYS?|PASSWORD|API__KEYS)$" .name) }}
WARNING: extraEnv has {{ .name }}: a secret in the environment can be read in /proc and in the pod's description. Give it in config, or as a file.
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
