{{/*
The configuration of the gateway and its secrets.

`clarion.resolved` turns `config` into the file that pods read: secrets that are given in it move to a Secret, and their
keys become files. Its result, as YAML:
  config     the tree for the ConfigMap; no secret is in it
  given      entries of the chart's Secret, by name
  generated  names of entries that the chart makes up
*/}}

{{- define "clarion.secretsPath" -}}/etc/clarion/secrets{{- end -}}
{{- define "clarion.redisTlsPath" -}}/etc/clarion/redis-tls{{- end -}}

{{/* `config` as it was given, without keys that have no value: to the gateway they are not set. */}}
{{- define "clarion.given" -}}
{{- include "clarion.withoutNulls" .Values.config -}}
{{- end -}}

{{- define "clarion.withoutNulls" -}}
{{- $left := dict -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $left $key (include "clarion.withoutNulls" $value | fromYaml) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $left $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $left -}}
{{- end -}}

{{- define "clarion.resolved" -}}
{{- $resolved := dict "config" (include "clarion.given" . | fromYaml) "given" (dict) "generated" (list) -}}
{{- $arguments := dict "root" . "resolved" $resolved -}}
{{- include "clarion.resolveInternal" $arguments -}}
{{- include "clarion.resolveToken" (merge (dict "section" "token" "entry" "token") $arguments) -}}
{{- include "clarion.resolveToken" (merge (dict "section" "subscription_token" "entry" "subscription-token") $arguments) -}}
{{- include "clarion.resolveApiKeys" $arguments -}}
{{- include "clarion.resolveRedis" $arguments -}}
{{- toYaml $resolved -}}
{{- end -}}

{{/* The table at a key of a tree, made if there is none. Templates return text only, so it is put into `into`. */}}
{{- define "clarion.table" -}}
{{- if not (kindIs "map" (get .tree .key)) -}}
{{- $_ := set .tree .key dict -}}
{{- end -}}
{{- end -}}

{{/* Moves a secret that is given at `key` of `table` into the entry `entry`. Arguments: resolved, table, key, entry. */}}
{{- define "clarion.moveSecret" -}}
{{- $value := get .table .key -}}
{{- $text := ternary (join "\n" ($value | default list)) ($value | toString) (kindIs "slice" $value) -}}
{{- $_ := unset .table .key -}}
{{- if and $value $text -}}
{{- $_ := set .resolved.given .entry $text -}}
{{- $_ := set .table (printf "%s_file" .key) (printf "%s/%s" (include "clarion.secretsPath" .) .entry) -}}
{{- end -}}
{{- end -}}

{{/* Lets the setting `key` of `table` be read from the entry `entry`, unless it is read from elsewhere. */}}
{{- define "clarion.readEntry" -}}
{{- $file := printf "%s_file" .key -}}
{{- if and .entry (not (get .table $file)) -}}
{{- $_ := set .table $file (printf "%s/%s" (include "clarion.secretsPath" .) .entry) -}}
{{- end -}}
{{- end -}}

{{/* Reached from other pods and by probes: loopback would not do. */}}
{{- define "clarion.resolveInternal" -}}
{{- $config := .resolved.config -}}
{{- include "clarion.table" (dict "tree" $config "key" "internal") -}}
{{- $_ := set $config.internal "address" (default "0.0.0.0" $config.internal.address) -}}
{{- end -}}

{{/* Keys of tokens. Arguments: root, resolved, section, entry. */}}
{{- define "clarion.resolveToken" -}}
{{- $config := .resolved.config -}}
{{- include "clarion.table" (dict "tree" $config "key" "client") -}}
{{- include "clarion.table" (dict "tree" $config.client "key" .section) -}}
{{- $token := get $config.client .section -}}
{{- $key := dict "resolved" .resolved "table" $token "key" "hmac_secret_key" -}}
{{- $previous := dict "resolved" .resolved "table" $token "key" "hmac_previous_secret_keys" -}}
{{- include "clarion.moveSecret" (merge (dict "entry" (printf "%s-key" .entry)) $key) -}}
{{- include "clarion.moveSecret" (merge (dict "entry" (printf "%s-previous-keys" .entry)) $previous) -}}
{{- $secrets := .root.Values.secrets -}}
{{- $takesHmac := $token.algorithms | default (list "HS256") | join "," | contains "HS" -}}
{{- $isForConnections := eq .section "token" -}}
{{- if and $secrets.existingSecret $takesHmac -}}
{{- $entry := ternary $secrets.entries.tokenKey $secrets.entries.subscriptionTokenKey $isForConnections -}}
{{- include "clarion.readEntry" (merge (dict "entry" $entry) $key) -}}
{{- $entry = ternary $secrets.entries.previousTokenKeys "" $isForConnections -}}
{{- include "clarion.readEntry" (merge (dict "entry" $entry) $previous) -}}
{{- else if and $secrets.generate $takesHmac $isForConnections (not $token.hmac_secret_key_file) -}}
{{- $_ := set .resolved "generated" (append .resolved.generated "token-key") -}}
{{- include "clarion.readEntry" (merge (dict "entry" "token-key") $key) -}}
{{- end -}}
{{- if not $token }}{{ $_ := unset $config.client .section }}{{ end -}}
{{- if not $config.client }}{{ $_ := unset $config "client" }}{{ end -}}
{{- end -}}

{{/* Keys of the server API: each becomes a table with a file. Arguments: root, resolved. */}}
{{- define "clarion.resolveApiKeys" -}}
{{- $resolved := .resolved -}}
{{- $config := $resolved.config -}}
{{- $secrets := .root.Values.secrets -}}
{{- include "clarion.table" (dict "tree" $config "key" "api") -}}
{{- $keys := list -}}
{{- range $index, $key := $config.api.keys | default list -}}
{{- $table := ternary $key (dict "key" $key) (kindIs "map" $key) -}}
{{- $entry := printf "api-key-%v" (default $index $table.name) | replace " " "-" -}}
{{- if $table.key }}{{ include "clarion.moveSecret" (dict "resolved" $resolved "table" $table "key" "key" "entry" $entry) }}{{ end -}}
{{- $keys = append $keys $table -}}
{{- end -}}
{{- if not (or $keys $config.api.insecure) -}}
{{- $entry := "" -}}
{{- if $secrets.existingSecret -}}
{{- $entry = $secrets.entries.apiKey -}}
{{- else if $secrets.generate -}}
{{- $entry = "api-key" -}}
{{- $_ := set $resolved "generated" (append $resolved.generated $entry) -}}
{{- end -}}
{{- if $entry -}}
{{- $keys = list (dict "name" "default" "key_file" (printf "%s/%s" (include "clarion.secretsPath" .) $entry)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config.api "keys" $keys -}}
{{- end -}}

{{/* How Redis is reached. Arguments: root, resolved. */}}
{{- define "clarion.resolveRedis" -}}
{{- $values := .root.Values.redis -}}
{{- $config := .resolved.config -}}
{{- $type := include "clarion.brokerType" .root -}}
{{- include "clarion.table" (dict "tree" $config "key" "broker") -}}
{{- $_ := set $config.broker "type" $type -}}
{{- if eq $type "redis" -}}
{{- include "clarion.table" (dict "tree" $config.broker "key" "redis") -}}
{{- $redis := $config.broker.redis -}}
{{- $password := dict "resolved" .resolved "table" $redis "key" "password" "entry" "redis-password" -}}
{{- include "clarion.moveSecret" $password -}}
{{- if or $values.existingSecret $values.dev.enabled }}{{ include "clarion.readEntry" $password }}{{ end -}}
{{- if $values.dev.enabled -}}
{{- $_ := set $redis "address" (printf "redis://%s:6379" (include "clarion.redisName" .root)) -}}
{{- end -}}
{{- if eq $values.mode "cluster" }}{{ $_ := set $redis "cluster" true }}{{ end -}}
{{- if eq $values.mode "sentinel" -}}
{{- include "clarion.table" (dict "tree" $redis "key" "sentinel") -}}
{{- $sentinel := dict "resolved" .resolved "table" $redis.sentinel "key" "password" "entry" "sentinel-password" -}}
{{- include "clarion.moveSecret" $sentinel -}}
{{- if $values.sentinelPasswordKey }}{{ include "clarion.readEntry" $sentinel }}{{ end -}}
{{- end -}}
{{- include "clarion.resolveRedisTls" (dict "tls" $values.tls "redis" $redis) -}}
{{- end -}}
{{- end -}}

{{- define "clarion.resolveRedisTls" -}}
{{- if .tls.existingSecret -}}
{{- include "clarion.table" (dict "tree" .redis "key" "tls") -}}
{{- $tls := .redis.tls -}}
{{- $path := include "clarion.redisTlsPath" . -}}
{{- range $key, $entry := dict "ca_file" .tls.caKey "cert_file" .tls.certKey "key_file" .tls.keyKey -}}
{{- if $entry }}{{ $_ := set $tls $key (printf "%s/%s" $path $entry) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if the chart has a Secret to make. */}}
{{- define "clarion.hasSecret" -}}
{{- $resolved := include "clarion.resolved" . | fromYaml -}}
{{- if and (not .Values.secrets.existingSecret) (or $resolved.given $resolved.generated) }}true{{ end -}}
{{- end -}}

{{/* Sources of the volume with everything secret: each entry is a file of its name. */}}
{{- define "clarion.secretSources" -}}
{{- $redis := .Values.redis -}}
{{- if or .Values.secrets.existingSecret (include "clarion.hasSecret" .) }}
- secret:
    name: {{ include "clarion.secretName" . }}
{{- end }}
{{- if $redis.dev.enabled }}
- secret:
    name: {{ include "clarion.redisName" . }}
    items: [{key: redis-password, path: redis-password}]
{{- else if $redis.existingSecret }}
- secret:
    name: {{ $redis.existingSecret }}
    items:
      - {key: {{ $redis.passwordKey }}, path: redis-password}
      {{- with $redis.sentinelPasswordKey }}
      - {key: {{ . }}, path: sentinel-password}
      {{- end }}
{{- end }}
{{- end -}}

{{/* The ports of every Redis and sentinel that is named, as a list. */}}
{{- define "clarion.redisPorts" -}}
{{- $redis := dig "broker" "redis" dict (include "clarion.given" . | fromYaml) -}}
{{- $ports := dict -}}
{{- $addresses := $redis.address | default list -}}
{{- range ternary $addresses (list $addresses) (kindIs "slice" $addresses) -}}
{{- $_ := set $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" (first (splitList "/" (last (splitList "://" .))))) | default "6379") true -}}
{{- end -}}
{{- if eq .Values.redis.mode "sentinel" -}}
{{- $_ := set $ports "6379" true -}}
{{- range dig "sentinel" "addresses" list $redis -}}
{{- $_ := set $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default "26379") true -}}
{{- end -}}
{{- end -}}
{{- range $ports | keys | sortAlpha | default (list "6379") }}
- {{ . }}
{{- end -}}
{{- end -}}

{{/* The port that traces go to; nothing if they go nowhere. */}}
{{- define "clarion.tracesPort" -}}
{{- with dig "otlp" "endpoint" "" (include "clarion.given" . | fromYaml) -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}
{{- end -}}

{{/* The file of the first API key that may publish. The argument is the resolved configuration. */}}
{{- define "clarion.publishKeyFile" -}}
{{- $files := list -}}
{{- range .api.keys -}}
{{- if and .key_file (or (not .scopes) (has "publish" .scopes)) }}{{ $files = append $files .key_file }}{{ end -}}
{{- end -}}
{{- with $files }}{{ first . }}{{ end -}}
{{- end -}}
