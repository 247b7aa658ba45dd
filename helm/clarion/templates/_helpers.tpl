{{/* Names, labels, and what several templates have to agree on. */}}

{{- define "clarion.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is put behind it: Kubernetes takes 63 characters. */}}
{{- define "clarion.fullname" -}}
{{- $name := include "clarion.name" . -}}
{{- $long := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $long .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "clarion.secretName" -}}
{{- default (printf "%s-keys" (include "clarion.fullname" .)) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "clarion.redisName" -}}
{{- printf "%s-redis" (include "clarion.fullname" .) -}}
{{- end -}}

{{- define "clarion.serviceAccountName" -}}
{{- $own := ternary (include "clarion.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $own .Values.serviceAccount.name -}}
{{- end -}}

{{/* What selects pods: without the version, so that an upgrade does not lose the old ones. */}}
{{- define "clarion.selector" -}}
app.kubernetes.io/name: {{ include "clarion.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object. Arguments: root, component, extra: labels of its own, if any. */}}
{{- define "clarion.labels" -}}
{{- $standard := dict
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
      "app.kubernetes.io/version" .root.Chart.AppVersion
      "app.kubernetes.io/managed-by" .root.Release.Service
      "app.kubernetes.io/part-of" "clarion" -}}
{{- $selector := include "clarion.selector" . | fromYaml -}}
{{- toYaml (merge (dict) $selector $standard (.extra | default dict) .root.Values.labels) -}}
{{- end -}}

{{/* Labels of pods: without the version of the chart, so that a new chart alone does not replace them. */}}
{{- define "clarion.podLabels" -}}
{{- omit (include "clarion.labels" . | fromYaml) "helm.sh/chart" | toYaml -}}
{{- end -}}

{{- define "clarion.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* A duration as the gateway takes it, in milliseconds. Arguments: path, duration. */}}
{{- define "clarion.milliseconds" -}}
{{- $text := .duration | toString | nospace -}}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h|d))+$" $text) -}}
{{- fail (printf "config.%s must be a duration such as 20s, 1m30s or 500ms, not %s" .path .duration) -}}
{{- end -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[smhd])" $text -1 -}}
{{- /* Without leading zeros, which would make the number octal. */ -}}
{{- $number := regexReplaceAll "^0+([0-9])" (regexFind "[0-9]+" .) "${1}" -}}
{{- $sum = add $sum (mul (int64 $number) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* How long the drain takes, in seconds, rounded up: config.drain.delay + config.drain.window. */}}
{{- define "clarion.drainSeconds" -}}
{{- $drain := get (include "clarion.given" . | fromYaml) "drain" | default dict -}}
{{- $delay := include "clarion.milliseconds" (dict "path" "drain.delay" "duration" (default "5s" $drain.delay)) -}}
{{- $window := include "clarion.milliseconds" (dict "path" "drain.window" "duration" (default "20s" $drain.window)) -}}
{{- div (add (int64 $delay) (int64 $window) 999) 1000 -}}
{{- end -}}

{{/* The least patience that Kubernetes needs: the drain, and ten seconds for the last requests of the server API. */}}
{{- define "clarion.graceMin" -}}
{{- add (include "clarion.drainSeconds" . | int64) 10 -}}
{{- end -}}

{{- define "clarion.grace" -}}
{{- default (include "clarion.graceMin" .) .Values.terminationGracePeriodSeconds | int64 -}}
{{- end -}}

{{/* The most pods there may be. */}}
{{- define "clarion.replicasMax" -}}
{{- ternary .Values.replicas .Values.autoscaling.maxReplicas (eq .Values.autoscaling.mode "none") -}}
{{- end -}}

{{/* The fewest pods there may be. */}}
{{- define "clarion.replicasMin" -}}
{{- ternary .Values.replicas .Values.autoscaling.minReplicas (eq .Values.autoscaling.mode "none") -}}
{{- end -}}

{{/* How long a roll may take: every pod after the one before it. */}}
{{- define "clarion.deadlineMin" -}}
{{- $one := add (include "clarion.grace" . | int64) .Values.rollout.minReadySeconds -}}
{{- mul (include "clarion.replicasMax" . | int64) $one -}}
{{- end -}}

{{- define "clarion.publicPort" -}}
{{- dig "public" "port" 8000 (include "clarion.given" . | fromYaml) -}}
{{- end -}}

{{- define "clarion.internalPort" -}}
{{- dig "internal" "port" 9000 (include "clarion.given" . | fromYaml) -}}
{{- end -}}

{{/* "true" if a listener speaks TLS. Arguments: root, listener. */}}
{{- define "clarion.hasTls" -}}
{{- if dig .listener "tls" "cert_file" "" (include "clarion.given" .root | fromYaml) }}true{{ end -}}
{{- end -}}

{{- define "clarion.brokerType" -}}
{{- $implied := ternary "redis" "memory" .Values.redis.dev.enabled -}}
{{- dig "broker" "type" $implied (include "clarion.given" . | fromYaml) -}}
{{- end -}}

{{/* The strategy of the roll: without Redis there is never a second node beside the first. */}}
{{- define "clarion.strategy" -}}
{{- $natural := ternary "RollingUpdate" "Recreate" (eq (include "clarion.brokerType" .) "redis") -}}
{{- default $natural .Values.rollout.strategy -}}
{{- end -}}

{{/* "true" where objects of a kind are wanted. Arguments: root, enabled (false, true, auto), api. */}}
{{- define "clarion.isWanted" -}}
{{- $isAuto := eq (toString .enabled) "auto" -}}
{{- if or (eq (toString .enabled) "true") (and $isAuto (.root.Capabilities.APIVersions.Has .api)) }}true{{ end -}}
{{- end -}}

{{/* The traffic distribution of a Service, where Kubernetes knows the field. Arguments: root, value. */}}
{{- define "clarion.trafficDistribution" -}}
{{- if and .value (semverCompare ">=1.31.0-0" .root.Capabilities.KubeVersion.Version) -}}
trafficDistribution: {{ .value }}
{{- end -}}
{{- end -}}

{{/* What must be where pods are: selector of one component, for constraints and policies. */}}
{{- define "clarion.podSelector" -}}
matchLabels:
  {{- include "clarion.selector" . | nindent 2 }}
{{- end -}}

{{/* The appProtocol of a Service: what is set, unless the listener speaks TLS and nothing special was said. */}}
{{- define "clarion.appProtocol" -}}
{{- $set := (get .root.Values.service .listener).appProtocol -}}
{{- if and (eq $set "http") (include "clarion.hasTls" .) }}https{{ else }}{{ $set }}{{ end -}}
{{- end -}}
