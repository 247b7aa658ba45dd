#!/usr/bin/env python3
"""Writes the Grafana dashboard of Clarion: `dashboard.py > dashboard.json`.

A row is a list of panels, a panel a few plain values; what Grafana wants beside them is added at the end. The test of this
directory executes every expression against a live Prometheus.
"""

import json

# Which nodes are looked at. A variable that is left at All matches targets without that label as well, so the dashboard
# works outside of Kubernetes too.
NODES = 'job=~"$job",namespace=~"$namespace",pod=~"$pod",instance=~"$instance"'
# Of channels; `namespace` is that of Kubernetes.
CHANNELS = 'channel_namespace=~"$channel_namespace"'
BY_CHANNELS, NAMED = "channel_namespace", "{{channel_namespace}}"
EACH = "pod, instance"
NODE = "{{pod}} {{instance}}"
COLLAPSED_BELOW = 4
COLUMNS = 24


def of(metric, labels=""):
    """The series of a metric on the nodes that are looked at."""
    return f'{metric}{{{NODES}{"," if labels else ""}{labels}}}'


def total(metric, by="", labels=""):
    """The sum over all nodes, or by labels."""
    return f'sum{f" by ({by})" if by else ""} ({of(metric, labels)})'


def rate(metric, by="", labels=""):
    """Events in a second."""
    return f'sum{f" by ({by})" if by else ""} (rate({of(metric, labels)}[$__rate_interval]))'


def some(expression):
    """Without what does not happen: dozens of labels at zero would hide those that count."""
    return f"{expression} > 0"


def quantile(metric, by="", labels="", share="$quantile"):
    """A quantile of a histogram over all nodes."""
    by = f"le, {by}" if by else "le"
    return f'histogram_quantile({share}, {rate(metric + "_bucket", by, labels)})'


def panel(title, unit, *queries, kind="timeseries", width=8, **more):
    """A panel; a query is an expression, or one with its legend."""
    queries = [query if isinstance(query, tuple) else (query, "") for query in queries]
    return {"title": title, "unit": unit, "queries": queries, "kind": kind, "width": width, **more}


def stat(title, unit, expression, **more):
    return panel(title, unit, expression, kind="stat", width=4, **more)


CLOSED, REJECTED = "clarion_connections_closed_total", "clarion_handshakes_rejected_total"
DELIVERY, API = "clarion_delivery_duration_seconds", "clarion_api_requests_total"
COMMANDS, AUTH = "clarion_commands_total", "clarion_auth_duration_seconds"
FAILED_CALL = 'outcome=~"unavailable|busy|full|timeout"'
LIMITED = 'reason=~"rate|address_rate|address_connections_max|connections_max|memory|files"'
# Where nothing happens a share of it is no number, and shows as none.
DROPPED = f'{rate("clarion_publications_dropped_total")} / {rate("clarion_publications_delivered_total")}'
ERRORS = f'{rate(API, labels=FAILED_CALL)} / {rate(API)}'
REFUSED_TOKENS = f"""{rate(f"{AUTH}_count", labels='result!="ok"')} / {rate(f"{AUTH}_count")}"""
IN_TIME = f"""{rate(f"{DELIVERY}_bucket", labels='le="0.2"')} / {rate(f"{DELIVERY}_count")}"""

ROWS = {
    "Overview": [
        stat("Nodes up", "short", f'sum({of("up")})'),
        stat("Connections", "short", total("clarion_connections")),
        stat("Of the limit", "percentunit",
             f'{total("clarion_connections")} / {total("clarion_connections_limit")}', warn_above=0.85),
        stat("Publications dropped", "percentunit", DROPPED, warn_above=0.001),
        stat("API calls failed", "percentunit", ERRORS, warn_above=0.01),
        stat("Brokers heard", "percentunit", f'avg({of("clarion_broker_up")})', warn_below=1),
        panel("Publications", "ops",
              (rate("clarion_publications_received_total"), "in"),
              (rate("clarion_publications_delivered_total"), "out")),
        panel("Delivery", "s", (quantile(DELIVERY, share="0.5"), "p50"), (quantile(DELIVERY, share="0.99"), "p99")),
        panel("Builds", "short",
              f'count by (version, commit, rustc) ({of("clarion_node_info")})', kind="table"),
    ],
    "Connections": [
        panel("Open by protocol", "short", (total("clarion_connections", "protocol"), "{{protocol}}")),
        panel("Opened", "ops", (rate("clarion_connections_accepted_total", EACH), NODE)),
        panel("Closed by code", "ops", (some(rate(CLOSED, "code, reason")), "{{code}} {{reason}}")),
        panel("Open by node", "short", (total("clarion_connections", EACH), NODE)),
        panel("Imbalance: fullest node to mean", "short",
              f'max({total("clarion_connections", EACH)}) / avg({total("clarion_connections", EACH)})'),
        panel("Handshakes refused by reason", "ops", (some(rate(REJECTED, "reason")), "{{reason}}")),
        panel("Handshake", "s", (quantile("clarion_handshake_duration_seconds", "result"), "{{result}}")),
        panel("Lifetime of connections that ended", "s", quantile("clarion_connection_duration_seconds")),
        panel("Waiting for a turn", "short", (total("clarion_handshakes_waiting", EACH), NODE)),
    ],
    "Subscriptions": [
        panel("Subscriptions", "short", (total("clarion_subscriptions", EACH), NODE)),
        panel("Channels with subscribers, by node", "short", (total("clarion_channels", EACH), NODE)),
        panel("Subscriptions by namespace", "short", (some(total("clarion_subscriptions", BY_CHANNELS, CHANNELS)), NAMED)),
        panel("Channels with subscribers, by namespace", "short",
              (some(total("clarion_channels", BY_CHANNELS, CHANNELS)), NAMED)),
        panel("Commands", "ops", (some(rate(COMMANDS, "command")), "{{command}}")),
        panel("Commands that failed", "ops",
              (rate(COMMANDS, "command, outcome", 'outcome!="ok"'), "{{command}} {{outcome}}")),
        panel("Command to reply", "s", (quantile("clarion_command_duration_seconds", "command"), "{{command}}")),
        panel("Bytes", "Bps",
              (rate("clarion_bytes_received_total"), "in"), (rate("clarion_bytes_sent_total"), "out")),
    ],
    "Publish API": [
        panel("Calls", "ops", (some(rate(API, "method")), "{{method}}")),
        panel("Latency", "s", (quantile("clarion_api_request_duration_seconds", "method"), "{{method}}")),
        panel("Calls that failed", "ops", (some(rate(API, "method, outcome", 'outcome!="ok"')), "{{method}} {{outcome}}")),
        panel("Publications accepted", "ops", (rate("clarion_publications_received_total", "source"), "{{source}}")),
        panel("Publications accepted, by namespace", "ops",
              (some(rate("clarion_publications_received_total", BY_CHANNELS, CHANNELS)), NAMED)),
        panel("From publishing to the answer of the broker, by namespace", "s",
              (quantile("clarion_publish_duration_seconds", BY_CHANNELS, CHANNELS), NAMED)),
        panel("Publications that failed", "ops", (rate("clarion_publications_failed_total", "reason", CHANNELS), "{{reason}}")),
        panel("Repetitions suppressed", "ops", rate("clarion_idempotent_hits_total")),
    ],
    "Delivery": [
        panel("From the broker to the last socket", "s", (rate(f"{DELIVERY}_bucket", "le", CHANNELS), "{{le}}"), kind="heatmap"),
        panel("From the broker to the last socket, by namespace", "s", (quantile(DELIVERY, BY_CHANNELS, CHANNELS), NAMED)),
        panel("Within 200 ms", "percentunit", IN_TIME),
        panel("Subscribers of a publication, on one shard", "short", quantile("clarion_fanout_recipients")),
        panel("From the first to the last of them", "s", quantile("clarion_fanout_duration_seconds")),
        panel("Queued for connections", "bytes",
              (total("clarion_outbox_bytes", EACH), NODE), (f'min({of("clarion_outbox_limit_bytes")})', "limit of a node")),
        panel("Connections that fell behind", "ops", (rate("clarion_slow_consumers_total", "policy"), "{{policy}}")),
        panel("Publications dropped", "ops", (rate("clarion_publications_dropped_total", "reason"), "{{reason}}")),
        panel("Joins and leaves dropped", "ops", rate("clarion_notices_dropped_total")),
    ],
    "Recovery": [
        panel("Recoveries", "ops", (rate("clarion_recoveries_total", "outcome"), "{{outcome}}")),
        panel("Publications caught up with", "short", quantile("clarion_recovered_publications")),
        panel("Histories by what served them", "ops", (rate("clarion_history_reads_total", "source"), "{{source}}")),
        panel("Publications healed", "ops", rate("clarion_publications_healed_total")),
        panel("Subscribers told of a loss", "ops", rate("clarion_broker_losses_total")),
    ],
    "Redis": [
        panel("Heard", "short", (of("clarion_broker_up"), NODE)),
        panel("Since the last probe came back", "s", (of("clarion_broker_last_message_age_seconds"), NODE)),
        panel("Probe there and back", "s", quantile("clarion_broker_probe_duration_seconds")),
        panel("Command to answer", "s", (quantile("clarion_broker_command_duration_seconds", "command"), "{{command}}")),
        panel("Commands", "ops", (rate("clarion_broker_command_duration_seconds_count", "command"), "{{command}}")),
        panel("Commands that failed", "ops", (rate("clarion_broker_failures_total", "reason"), "{{reason}}")),
        panel("Connections given up", "ops", (rate("clarion_broker_reconnects_total", "reason"), "{{reason}}")),
        panel("Channels subscribed", "short", (of("clarion_broker_subscriptions"), NODE)),
        panel("Received and not delivered", "bytes", (of("clarion_broker_inbox_bytes"), NODE)),
        panel("Messages lost on the way in", "ops",
              (rate("clarion_broker_messages_dropped_total"), "dropped"),
              (rate("clarion_broker_bad_messages_total"), "bad")),
    ],
    "Auth": [
        panel("Tokens refused by reason", "ops", (some(rate(f"{AUTH}_count", "result", 'result!="ok"')), "{{result}}")),
        panel("Share of tokens refused", "percentunit", REFUSED_TOKENS),
        panel("Check of a token", "s", quantile(AUTH)),
        panel("Revocations remembered", "short", (of("clarion_revocations"), NODE)),
    ],
    "Rate limits": [
        panel("Sent away at the door", "ops", (rate(REJECTED, "reason", LIMITED), "{{reason}}")),
        panel("Closed for asking too often", "ops",
              (rate(CLOSED, "reason", 'reason=~"too_many_requests|too_many_errors"'), "{{reason}}")),
        panel("Sent away for one limit of a user or a connection", "ops",
              (rate(CLOSED, "reason", 'reason=~"connection_limit|channel_limit"'), "{{reason}}")),
    ],
    "Runtime": [
        panel("CPU", "short", (rate("process_cpu_seconds_total", EACH), NODE)),
        panel("Resident memory", "bytes",
              (of("process_resident_memory_bytes"), NODE), (f'min({of("clarion_memory_limit_bytes")})', "limit of a node")),
        panel("Allocator", "bytes",
              (total("clarion_jemalloc_allocated_bytes"), "allocated"),
              (total("clarion_jemalloc_resident_bytes"), "resident")),
        panel("Event loops busy", "percentunit",
              (f'{rate("clarion_runtime_busy_seconds_total", f"{EACH}, runtime")} / '
               f'{total("clarion_runtime_workers", f"{EACH}, runtime")}', NODE + " {{runtime}}")),
        panel("Timers late", "s", (f'max by ({EACH}, shard) ({of("clarion_shard_lag_seconds")})', NODE + " {{shard}}")),
        panel("Tasks", "short", (total("clarion_runtime_tasks", EACH), NODE)),
        panel("Tasks woken from outside that wait", "short", (total("clarion_runtime_queue_depth", EACH), NODE)),
        panel("Open files", "percentunit", (f'{of("process_open_fds")} / {of("process_max_fds")}', NODE)),
        panel("Threads", "short", (of("process_threads"), NODE)),
        panel("Lines of logs not written", "ops", (rate("clarion_logs_dropped_total"), "dropped"),
              (rate("clarion_log_lines_suppressed_total"), "suppressed")),
    ],
    "Rollout": [
        panel("Nodes that stop", "short", (of("clarion_draining"), NODE)),
        panel("Connections left to close", "short", (of("clarion_drain_remaining"), NODE)),
        panel("Connections accepted", "ops", rate("clarion_connections_accepted_total")),
        panel("Nodes by version", "short", (f'count by (version) ({of("clarion_node_info")})', "{{version}}")),
        panel("Uptime", "s", (f'time() - {of("process_start_time_seconds")}', NODE)),
        panel("Nodes that each one knows", "short", (of("clarion_cluster_nodes"), NODE)),
        panel("Nodes that died", "short", f'sum(increase({of("clarion_cluster_node_deaths_total")}[$__rate_interval]))'),
        panel("Connections above the mean, to let go", "short", (of("clarion_rebalance_excess"), NODE)),
        panel("Commands of nodes", "ops", (rate("clarion_node_commands_received_total", "command"), "{{command}}")),
        panel("Questions that nodes left unanswered", "ops", rate("clarion_surveys_unanswered_total")),
    ],
}

# A node that was not there a minute ago: a deploy, or a restart.
STARTED = f'time() - {of("process_start_time_seconds")} < 60'


def variables():
    """What one chooses at the top."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    known = []
    chosen = [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
    for name in ["job", "namespace", "pod", "instance", "channel_namespace"]:
        metric = "clarion_subscriptions" if name == "channel_namespace" else "clarion_node_info"
        query = f'label_values({metric}{{{",".join(known)}}}, {name})'
        chosen.append({
            "name": name, "type": "query", "datasource": source, "query": {"query": query, "refId": name},
            "definition": query, "refresh": 2, "sort": 1, "includeAll": True, "multi": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        })
        known.append(f'{name}=~"${name}"')
    shares = ["0.5", "0.9", "0.99", "0.999"]
    options = [{"text": share, "value": share, "selected": share == "0.99"} for share in shares]
    current = {"text": "0.99", "value": "0.99"}
    chosen.append({"name": "quantile", "type": "custom", "label": "Quantile", "query": ",".join(shares),
                   "options": options, "current": current})
    return chosen


def target(index, expression, legend, kind):
    """A query as Grafana wants it."""
    return {
        "refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend or "__auto",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
        "instant": kind == "table", "range": kind != "table",
    }


def steps(given):
    """Where a figure changes its color."""
    if "warn_above" in given:
        return [{"color": "green", "value": None}, {"color": "red", "value": given["warn_above"]}]
    if "warn_below" in given:
        return [{"color": "red", "value": None}, {"color": "green", "value": given["warn_below"]}]
    return [{"color": "green", "value": None}]


def whole_panel(given, number, x, y, height):
    """A panel as Grafana wants it."""
    targets = [target(index, *query, given["kind"]) for index, query in enumerate(given["queries"])]
    return {
        "id": number, "title": given["title"], "type": given["kind"],
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": given["width"], "h": height},
        "fieldConfig": {"defaults": {
            "unit": given["unit"], "min": 0, "noValue": "none", "thresholds": {"mode": "absolute", "steps": steps(given)},
        }, "overrides": []},
        "options": {"calculate": False} if given["kind"] == "heatmap" else {},
        "targets": targets,
    }


def lay_out(row, first, top):
    """The panels of a row in lines that fill the width."""
    panels, x, y, tallest = [], 0, top, 0
    for number, given in enumerate(row, first):
        height = 4 if given["kind"] == "stat" else 8
        if x + given["width"] > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        panels.append(whole_panel(given, number, x, y, height))
        x, tallest = x + given["width"], max(tallest, height)
    return panels, y + tallest


def all_panels():
    """Rows with their panels; those far down are collapsed and hold theirs."""
    panels, top, number = [], 0, 1
    for index, (title, row) in enumerate(ROWS.items()):
        inside, bottom = lay_out(row, number + 1, top + 1)
        is_collapsed = index >= COLLAPSED_BELOW
        panels.append({
            "id": number, "type": "row", "title": title, "collapsed": is_collapsed,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}, "panels": inside if is_collapsed else [],
        })
        panels += [] if is_collapsed else inside
        number += 1 + len(row)
        top = top + 1 if is_collapsed else bottom
    return panels


def dashboard():
    """All of it."""
    return {
        "uid": "clarion", "title": "Clarion", "tags": ["clarion"], "schemaVersion": 39, "version": 1, "editable": True,
        "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "browser", "graphTooltip": 1,
        "templating": {"list": variables()},
        "annotations": {"list": [{
            "name": "Nodes that began", "enable": True, "iconColor": "blue", "expr": STARTED, "titleFormat": NODE,
            "datasource": {"type": "prometheus", "uid": "${datasource}"}, "step": "60s",
        }]},
        "panels": all_panels(),
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1, ensure_ascii=False))
