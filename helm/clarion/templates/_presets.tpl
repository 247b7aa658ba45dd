{{/*
What ingress controllers have to be told: an hour without a byte is normal, nothing is buffered, new clients go where the
fewest are, and never by their address. The gateway pings every 25 s, so shorter limits would do, down to that.
*/}}
{{- define "clarion.presetAnnotations" -}}
{{- $port := include "clarion.internalPort" . -}}
{{- if eq .Values.ingress.preset "nginx" -}}
# The community's controller, which is retired, and the vendor's, each of which ignores what is for the other.
nginx.ingress.kubernetes.io/proxy-read-timeout: "3600"
nginx.ingress.kubernetes.io/proxy-send-timeout: "3600"
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.org/websocket-services: {{ include "clarion.fullname" . }}
nginx.org/proxy-read-timeout: 3600s
nginx.org/proxy-send-timeout: 3600s
nginx.org/proxy-buffering: "False"
nginx.org/lb-method: least_conn
{{- else if eq .Values.ingress.preset "haproxy" -}}
# The vendor's controller and the community's.
haproxy.org/timeout-tunnel: 3600s
haproxy.org/timeout-server: 3600s
haproxy.org/timeout-client: 3600s
haproxy.org/load-balance: leastconn
haproxy-ingress.github.io/timeout-tunnel: 3600s
haproxy-ingress.github.io/timeout-server: 3600s
haproxy-ingress.github.io/balance-algorithm: leastconn
{{- else if eq .Values.ingress.preset "alb" -}}
alb.ingress.kubernetes.io/target-type: ip
alb.ingress.kubernetes.io/load-balancer-attributes: idle_timeout.timeout_seconds=3600
alb.ingress.kubernetes.io/target-group-attributes: load_balancing.algorithm.type=least_outstanding_requests,stickiness.enabled=false,deregistration_delay.timeout_seconds={{ include "clarion.drainSeconds" . }}
alb.ingress.kubernetes.io/healthcheck-port: {{ $port | quote }}
alb.ingress.kubernetes.io/healthcheck-path: /readyz
alb.ingress.kubernetes.io/healthcheck-protocol: {{ ternary "HTTPS" "HTTP" (eq (include "clarion.hasTls" (dict "root" . "listener" "internal")) "true") }}
{{- end -}}
{{- end -}}

{{/* Traefik is told at the Service; its time limits are those of its entry points, an upgraded connection has none. */}}
{{- define "clarion.presetServiceAnnotations" -}}
{{- if and .Values.ingress.enabled (eq .Values.ingress.preset "traefik") -}}
traefik.ingress.kubernetes.io/service.nativelb: "false"
traefik.ingress.kubernetes.io/service.sticky.cookie: "false"
{{- end -}}
{{- end -}}
