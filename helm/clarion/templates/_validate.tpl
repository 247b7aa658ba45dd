{{/* Refuses values that could not work together, all at once, each with its name and with what to set. */}}
{{- define "clarion.validate" -}}
{{- $problems := list -}}
{{- range list "Scale" "Rollout" "Ports" "Redis" "Secrets" "Exposure" -}}
{{- $found := include (printf "clarion.validate%s" .) $ | trim -}}
{{- if $found }}{{ $problems = append $problems $found }}{{ end -}}
{{- end -}}
{{- if $problems }}{{ fail (printf "these values cannot work:\n%s" (join "\n" $problems)) }}{{ end -}}
{{- end -}}

{{- define "clarion.validateScale" -}}
{{- $scaling := .Values.autoscaling -}}
{{- $isMemory := eq (include "clarion.brokerType" .) "memory" -}}
{{- if and $isMemory (ne $scaling.mode "none") }}
- autoscaling.mode is {{ $scaling.mode }}, but config.broker.type is memory, in which nodes do not hear each other: set config.broker.type to redis and config.broker.redis.address, or autoscaling.mode to none
{{- else if and $isMemory (gt (int .Values.replicas) 1) }}
- replicas is {{ .Values.replicas }}, but config.broker.type is memory, in which nodes do not hear each other: set config.broker.type to redis and config.broker.redis.address, or replicas to 1
{{- end }}
{{- if and (ne $scaling.mode "keda") $scaling.keda.serverAddress }}
- autoscaling.keda.serverAddress is set, but autoscaling.mode is {{ $scaling.mode }}: one of them scales, never two; set autoscaling.mode to keda, or leave autoscaling.keda.serverAddress empty
{{- end }}
{{- if and (eq $scaling.mode "keda") (not $scaling.keda.serverAddress) }}
- autoscaling.keda.serverAddress is empty: autoscaling.mode keda asks Prometheus there
{{- end }}
{{- if ne $scaling.mode "none" }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
- autoscaling.minReplicas is {{ $scaling.minReplicas }}, above autoscaling.maxReplicas, {{ $scaling.maxReplicas }}
{{- end }}
{{- range $metric, $resource := dict "cpuPercent" "cpu" "memoryPercent" "memory" }}
{{- if and (get $scaling $metric) (not (dig "requests" $resource "" $.Values.resources)) }}
- autoscaling.{{ $metric }} is a share of resources.requests.{{ $resource }}, which is not set
{{- end }}
{{- end }}
{{- if not (or $scaling.connectionsPerPod $scaling.cpuPercent $scaling.memoryPercent) }}
- autoscaling.connectionsPerPod, cpuPercent and memoryPercent are all 0: there is nothing to scale by
{{- end }}
{{- if and (eq $scaling.mode "keda") (not $scaling.connectionsPerPod) }}
- autoscaling.connectionsPerPod is 0: autoscaling.mode keda scales by it
{{- end }}
{{- end }}
{{- end -}}

{{- define "clarion.validateRollout" -}}
{{- $grace := .Values.terminationGracePeriodSeconds -}}
{{- $graceMin := include "clarion.graceMin" . | int64 -}}
{{- if and (not (kindIs "invalid" $grace)) (lt (int64 $grace) $graceMin) }}
- terminationGracePeriodSeconds is {{ $grace }}, but config.drain.delay + config.drain.window + 10 s is {{ $graceMin }}: pods would be killed with clients connected; set it to {{ $graceMin }} or more, or leave it null
{{- end }}
{{- $deadline := .Values.rollout.progressDeadlineSeconds -}}
{{- $deadlineMin := include "clarion.deadlineMin" . | int64 -}}
{{- if and (not (kindIs "invalid" $deadline)) (lt (int64 $deadline) $deadlineMin) }}
- rollout.progressDeadlineSeconds is {{ $deadline }}, but {{ include "clarion.replicasMax" . }} pods one after the other may take {{ $deadlineMin }}: set it to {{ $deadlineMin }} or more, or leave it null
{{- end }}
{{- if and (eq (toString .Values.rollout.maxSurge | trimSuffix "%") "0") (eq (toString .Values.rollout.maxUnavailable | trimSuffix "%") "0") }}
- rollout.maxSurge and rollout.maxUnavailable are both 0: nothing could ever be replaced
{{- end }}
{{- if and .Values.pdb.enabled (not (kindIs "invalid" .Values.pdb.minAvailable)) (not (kindIs "invalid" .Values.pdb.maxUnavailable)) }}
- pdb.minAvailable and pdb.maxUnavailable are both set: set one of them to null
{{- end }}
{{- if and .Values.pdb.enabled (kindIs "invalid" .Values.pdb.minAvailable) (kindIs "invalid" .Values.pdb.maxUnavailable) }}
- pdb.minAvailable and pdb.maxUnavailable are both null: set one of them, or pdb.enabled to false
{{- end }}
{{- end -}}

{{- define "clarion.validatePorts" -}}
{{- $public := include "clarion.publicPort" . -}}
{{- if eq $public (include "clarion.internalPort" .) }}
- config.internal.port is {{ $public }}, as is config.public.port: the server API would be exposed with the clients' port
{{- end }}
{{- with dig "node" "name" "" (include "clarion.given" . | fromYaml) }}
- config.node.name is {{ . }}: each node has the name of its pod, leave it out
{{- end }}
{{- if dig "internal" "tls" "client_ca_file" "" (include "clarion.given" . | fromYaml) }}
- config.internal.tls.client_ca_file is set: it asks a certificate of probes, which have none; leave it out, and close the port with networkPolicy.enabled
{{- end }}
{{- $address := dig "internal" "address" "" (include "clarion.given" . | fromYaml) }}
{{- if or (hasPrefix "127." $address) (eq "::1" $address) }}
- config.internal.address is {{ $address }}: probes and other nodes could not reach it; leave it out, or set it to 0.0.0.0 or ::
{{- end }}
{{- end -}}

{{- define "clarion.validateRedis" -}}
{{- $redis := .Values.redis -}}
{{- $config := dig "broker" "redis" dict (include "clarion.given" . | fromYaml) -}}
{{- $addresses := $config.address | default "redis://127.0.0.1:6379" -}}
{{- $isRedis := eq (include "clarion.brokerType" .) "redis" -}}
{{- if not $isRedis }}
{{- range $name, $isSet := dict "redis.dev.enabled" $redis.dev.enabled "redis.existingSecret" $redis.existingSecret "redis.tls.existingSecret" $redis.tls.existingSecret "redis.mode" (ne $redis.mode "standalone") }}
{{- if $isSet }}
- {{ $name }} is set, but config.broker.type is memory: set it to redis
{{- end }}
{{- end }}
{{- else }}
{{- if $redis.dev.enabled }}
{{- range $name, $isSet := dict "config.broker.redis.address" $config.address "redis.existingSecret" $redis.existingSecret "redis.tls.existingSecret" $redis.tls.existingSecret "config.broker.redis.password" $config.password "redis.mode" (ne $redis.mode "standalone") }}
{{- if $isSet }}
- {{ $name }} is set, and so is redis.dev.enabled, which brings a Redis of its own: keep one of them
{{- end }}
{{- end }}
{{- else if not (or $config.address (eq $redis.mode "sentinel")) }}
- config.broker.redis.address is not set: there is no Redis in the pod itself; set it, or redis.dev.enabled for trying things out
{{- end }}
{{- $sentinel := $config.sentinel | default dict }}
{{- if and (eq $redis.mode "sentinel") (not (and $sentinel.master $sentinel.addresses)) }}
- config.broker.redis.sentinel needs `master` and `addresses`, because redis.mode is sentinel
{{- end }}
{{- if and (ne $redis.mode "sentinel") (or $sentinel.master $sentinel.addresses) }}
- config.broker.redis.sentinel is set, but redis.mode is {{ $redis.mode }}: set it to sentinel
{{- end }}
{{- if and (ne $redis.mode "cluster") $config.cluster }}
- config.broker.redis.cluster is set, but redis.mode is {{ $redis.mode }}: set it to cluster
{{- end }}
{{- if and $redis.tls.existingSecret (ne $redis.mode "sentinel") (not (contains "rediss://" ($addresses | toString))) }}
- redis.tls.existingSecret would not be used: config.broker.redis.address does not begin with rediss://
{{- end }}
{{- if ne (empty $redis.tls.certKey) (empty $redis.tls.keyKey) }}
- redis.tls.certKey and redis.tls.keyKey go together: a certificate with its key
{{- end }}
{{- if and $config.password .Values.secrets.existingSecret }}
- config.broker.redis.password is given, and so is secrets.existingSecret, so no Secret would hold it: name the Secret that has it in redis.existingSecret
{{- end }}
{{- if and $sentinel.password .Values.secrets.existingSecret }}
- config.broker.redis.sentinel.password is given, and so is secrets.existingSecret, so no Secret would hold it: name the Secret that has it in redis.existingSecret
{{- end }}
{{- if and $config.password $redis.existingSecret }}
- config.broker.redis.password is given, and so is redis.existingSecret: keep one of them
{{- end }}
{{- end }}
{{- end -}}

{{- define "clarion.validateSecrets" -}}
{{- $client := dig "client" dict (include "clarion.given" . | fromYaml) -}}
{{- $existing := .Values.secrets.existingSecret -}}
{{- range $section := list "token" "subscription_token" }}
{{- $token := get $client $section | default dict }}
{{- range $key := list "hmac_secret_key" "hmac_previous_secret_keys" }}
{{- if and (get $token $key) $existing }}
- config.client.{{ $section }}.{{ $key }} is given, and so is secrets.existingSecret: put it in there
{{- end }}
{{- if and (get $token $key) (get $token (printf "%s_file" $key)) }}
- config.client.{{ $section }}.{{ $key }} is given, and so is its file: keep one of them
{{- end }}
{{- end }}
{{- end }}
{{- range $index, $key := dig "api" "keys" list (include "clarion.given" . | fromYaml) }}
{{- if and $existing (or (not (kindIs "map" $key)) (get (ternary $key dict (kindIs "map" $key)) "key")) }}
- config.api.keys[{{ $index }}] is given, and so is secrets.existingSecret: put it in there, and its path, /etc/clarion/secrets/ENTRY, into key_file
{{- end }}
{{- end }}
{{- end -}}

{{- define "clarion.validateExposure" -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- httpRoute.parentRefs is empty: name the Gateway, such as [{name: gateway}]
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- ingress.hosts is empty: name one, such as [{host: ws.example.com}]
{{- end }}
{{- end -}}
