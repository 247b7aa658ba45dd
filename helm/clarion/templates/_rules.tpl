{{/* The alerts of files/rules.yaml, less those that are disabled, with what is overridden. */}}
{{- define "clarion.ruleGroups" -}}
{{- $wanted := .Values.monitoring.prometheusRule -}}
{{- $file := .Files.Get "files/rules.yaml" | fromYaml -}}
{{- include "clarion.checkAlertNames" (dict "wanted" $wanted "file" $file) -}}
{{- $groups := list -}}
{{- range $group := $file.groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- if not (has ($rule.alert | default "") $wanted.disabled) -}}
{{- if $rule.alert }}{{ include "clarion.overrideAlert" (dict "rule" $rule "wanted" $wanted "job" $.Values.monitoring.serviceMonitor.job) }}{{ end -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- if $rules }}{{ $groups = append $groups (set $group "rules" $rules) }}{{ end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}

{{/* A name that no alert has would silently do nothing. */}}
{{- define "clarion.checkAlertNames" -}}
{{- $known := list -}}
{{- range .file.groups }}{{ range .rules }}{{ with .alert }}{{ $known = append $known . }}{{ end }}{{ end }}{{ end -}}
{{- range $place, $names := dict "disabled" .wanted.disabled "overrides" (keys .wanted.overrides) -}}
{{- range $names -}}
{{- if not (has . $known) -}}
{{- fail (printf "monitoring.prometheusRule.%s names %s, which is no alert; known are: %s" $place . ($known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Changes a rule in place. Arguments: rule, wanted, job. */}}
{{- define "clarion.overrideAlert" -}}
{{- $rule := .rule -}}
{{- $own := get .wanted.overrides $rule.alert | default dict -}}
{{- /* By what the nodes are found is a value of the ServiceMonitor. */}}
{{- $_ := set $rule "expr" (replace "job=\"clarion\"" (printf "job=%q" .job) $rule.expr) -}}
{{- range $key := list "for" "expr" -}}
{{- with get $own $key }}{{ $_ := set $rule $key . }}{{ end -}}
{{- end -}}
{{- $labels := merge (dict) ($own.labels | default dict) .wanted.alertLabels ($rule.labels | default dict) -}}
{{- if $labels }}{{ $_ := set $rule "labels" $labels }}{{ end -}}
{{- $annotations := $rule.annotations | default dict -}}
{{- with .wanted.runbookBaseUrl -}}
{{- $page := $annotations.runbook_url | default $rule.alert | base -}}
{{- $_ := set $annotations "runbook_url" (printf "%s/%s" (trimSuffix "/" .) $page) -}}
{{- end -}}
{{- $_ := set $rule "annotations" (merge (dict) ($own.annotations | default dict) $annotations) -}}
{{- end -}}
