/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The journey of a packet through an endpoint: parse, connection, judgement, verdict, hold.
 *
 * The same for pods, whose packets cross an interface, and for processes, whose packets their cgroup sees: place is a
 * constant at each call.
 */
#ifndef SLUICE_ENDPOINT_H
#define SLUICE_ENDPOINT_H

#include "conntrack.h"
#include "dns.h"
#include "hold.h"
#include "judge.h"
#include "verdict.h"

/* As ip_frag: a datagram whose fragments have not all come after 30 s is given up (net.ipv4.ipfrag_time). */
#define FRAGMENTS_NS (30 * SECOND_NS)
#define LINK_LOCAL_PREFIX bpf_htonl(0xfe800000)
#define LINK_LOCAL_MASK bpf_htonl(0xffc00000)
/* In every network namespace (net/core/net_namespace.c makes it first). */
#define LOOPBACK_IFINDEX 1

enum place {
	PLACE_INTERFACE,	/* the host side of a pod's veth */
	PLACE_CGROUP,
};

/*
 * Whether the endpoint may send from this address: its own, or what IPv6 needs before it has one. An endpoint whose
 * addresses are not known yet may send from none.
 */
static __always_inline int endpoint_owns(const struct endpoint *endpoint, const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (address_equals(address, endpoint->ipv4) || address_equals(address, endpoint->ipv6))
		return 1;
	return (words[0] & LINK_LOCAL_MASK) == LINK_LOCAL_PREFIX;
}

static __always_inline void fragment_key_fill(struct fragment_key *key, const struct packet *packet, __u32 endpoint,
					      enum direction direction)
{
	__builtin_memcpy(key->source, packet->source, 16);
	__builtin_memcpy(key->destination, packet->destination, 16);
	key->id = packet->fragment_id;
	key->endpoint = endpoint;
	key->protocol = packet->protocol;
	key->direction = direction;
}

/* Later fragments have no ports: they follow the first one, which the kernels of our age send first. */
static __always_inline int endpoint_later_fragment(struct __sk_buff *skb, const struct endpoint *endpoint, __u32 id,
						   const struct packet *packet, enum direction direction)
{
	struct fragment_key key = {};
	__u64 *until_ns;

	if (endpoint_rule_set(endpoint, direction) == RULE_SET_NONE)
		return pass(skb, REASON_PASS_FRAGMENT);
	fragment_key_fill(&key, packet, id, direction);
	until_ns = bpf_map_lookup_elem(&fragments, &key);
	if (until_ns && *until_ns > bpf_ktime_get_ns())
		return pass(skb, REASON_PASS_FRAGMENT);
	return drop(skb, REASON_DROP_FRAGMENT);
}

static __always_inline void endpoint_note_fragment(const struct packet *packet, __u32 id, enum direction direction)
{
	struct fragment_key key = {};
	__u64 until_ns = bpf_ktime_get_ns() + FRAGMENTS_NS;

	fragment_key_fill(&key, packet, id, direction);
	bpf_map_update_elem(&fragments, &key, &until_ns, BPF_ANY);
}

static __always_inline void ask_fill(struct ask *ask, struct __sk_buff *skb, const struct packet *packet,
				     const struct judgement *judgement, __u32 id, enum direction direction,
				     __u32 own_identity, int established)
{
	int egress = direction == DIRECTION_EGRESS;

	__builtin_memset(ask, 0, sizeof(*ask));
	ask->time_ns = bpf_ktime_get_ns();
	ask->name = egress ? name_find(id, packet->destination) : 0;
	__builtin_memcpy(ask->source, packet->source, 16);
	__builtin_memcpy(ask->destination, packet->destination, 16);
	ask->source_identity = egress ? own_identity : judgement->peer_identity;
	ask->destination_identity = egress ? judgement->peer_identity : own_identity;
	ask->endpoint = id;
	ask->rule = judgement->rule.id;
	ask->plugin = judgement->rule.plugin;
	ask->source_port = packet->source_port;
	ask->destination_port = packet->destination_port;
	ask->protocol = packet->protocol;
	ask->direction = direction;
	ask->context = judgement->rule.context;
	ask->flags = established ? ASK_ESTABLISHED : 0;
	ask_fill_packet(ask, skb, packet);
}

/* Whether the plugin that allowed the connection still is the one that would. */
static __always_inline int connection_is_current(const struct connection *connection)
{
	struct plugin_state *plugin;

	/* What was read once is gone, and requests are not the kernel's to see: what was decided holds while policy asks the same plugin. */
	if (!connection->plugin || (connection->flags & CONNECTION_READ) || connection->context == CONTEXT_HTTP)
		return 1;
	plugin = plugin_find(connection->plugin);
	return plugin && plugin->status == PLUGIN_ON && plugin->epoch == connection->epoch;
}

/*
 * Whether an ICMP error is about a connection of the endpoint that is allowed under this revision: path MTU discovery, and
 * refusals that reach who was refused.
 */
static __always_inline int endpoint_is_related(struct __sk_buff *skb, struct tracking *tracking,
					       const struct policy_state *policy, const struct packet *error, __u32 id,
					       enum direction direction)
{
	enum direction quoted_direction = direction == DIRECTION_EGRESS ? DIRECTION_INGRESS : DIRECTION_EGRESS;
	struct packet quoted = {};

	if (!packet_quote(skb, error, &quoted) ||
	    !address_equals(packet_local(&quoted, quoted_direction), packet_local(error, direction)))
		return 0;
	__builtin_memset(&tracking->key, 0, sizeof(tracking->key));
	connection_key_fill(&tracking->key, &quoted, id, quoted_direction);
	connection_find(tracking, policy, &quoted, quoted_direction);
	return tracking->connection && tracking->connection->revision == policy->revision;
}

static __always_inline int loopback_address(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (words[0] || words[1])
		return 0;
	return (words[2] == bpf_htonl(0xffff) && address[12] == 127) || (!words[2] && words[3] == bpf_htonl(1));
}

/* Whether an endpoint talks to itself: no policy is about that. Nobody else can make a packet come in where it goes out. */
static __always_inline int endpoint_is_self(struct __sk_buff *skb, const struct endpoint *endpoint, const __u8 *peer,
					    enum direction direction, const enum place place)
{
	if (place != PLACE_INTERFACE || (direction == DIRECTION_INGRESS && skb->ingress_ifindex != skb->ifindex))
		return 0;
	return address_equals(peer, endpoint->ipv4) || address_equals(peer, endpoint->ipv6);
}

/* Whether the node's own address as the peer is believed: what comes from the node itself entered through no interface. */
static __always_inline int packet_trusts_node(struct __sk_buff *skb, enum direction direction, const enum place place)
{
	if (direction == DIRECTION_EGRESS)
		return 1;
	return skb->ingress_ifindex == (place == PLACE_CGROUP ? LOOPBACK_IFINDEX : 0);
}

static __always_inline int packet_is_dns(const struct packet *packet, enum direction direction)
{
	__be16 port = direction == DIRECTION_EGRESS ? packet->destination_port : packet->source_port;

	return port == DNS_PORT && (packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_TCP);
}

/*
 * Whether a packet may begin a tracked connection. What comes from port 53 may be the answer to a query that passed for its
 * name and is not tracked: were it a connection that the resolver opened, any query from its port would be an answer to that.
 */
static __always_inline int endpoint_tracks(__u32 id, const struct packet *packet, enum direction direction)
{
	struct endpoint *endpoint;

	if (direction == DIRECTION_EGRESS || packet->opens || !packet_is_dns(packet, direction))
		return 1;
	/* Once more, which is rare, for want of stack: programs of 6.1 have none left. */
	endpoint = bpf_map_lookup_elem(&endpoints, &id);
	return endpoint && !(endpoint->flags & ENDPOINT_NAMES);
}

/* Whether a packet comes from the engine's proxy. The caller has the zero: there is no stack left for another one. */
static __always_inline int packet_is_proxied(struct __sk_buff *skb, const __u32 *zero)
{
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, zero);

	return engine && engine->proxy && (skb->ingress_ifindex == engine->proxy || skb->mark == engine->token + MARK_PROXIED);
}

/* Hands a packet from a pod to the engine's proxy, in whose network everything is local. */
static __always_inline int proxy_send(struct __sk_buff *skb, enum reason reason)
{
	__u32 zero = 0;
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);

	if (!engine || !engine->proxy)
		return drop(skb, REASON_FAIL_PROXY_ABSENT);
	count(skb, reason);
	return bpf_redirect_peer(engine->proxy, 0);
}

/*
 * Leaves a packet that is about a rule for requests to the program that knows what becomes of it, see requests.h; cb[1] and
 * cb[2] are set.
 */
static __always_inline void endpoint_requests(struct __sk_buff *skb, const struct judgement *judgement, const enum place place,
					      enum requests_stage stage, enum reason reason)
{
	if (place != PLACE_INTERFACE || judgement->rule.context != CONTEXT_HTTP)
		return;
	skb->cb[0] = reason;
	bpf_tail_call(skb, &pod_requests, stage);
}

/* Leaves a packet of a connection that goes to a backend to the program that writes the other address into it. */
static __always_inline void endpoint_translate(struct __sk_buff *skb, __u32 id, enum direction direction, enum reason reason)
{
	skb->cb[0] = reason;
	skb->cb[1] = id;
	bpf_tail_call(skb, &pod_translation, direction);
}

/* Leaves a packet of a connection whose first words are read to the program that does. */
static __always_inline void endpoint_hello(struct __sk_buff *skb, __u32 id, enum direction direction, enum reason reason)
{
	skb->cb[0] = reason;
	skb->cb[1] = id;
	skb->cb[3] = 0;
	bpf_tail_call(skb, &pod_hello, direction);
}

/* Leaves a DNS message to the programs that read it: they end what is so far, or what names make of it. */
static __always_inline void endpoint_dns(struct __sk_buff *skb, __u32 id, const struct packet *packet, enum direction direction,
					 const enum place place, enum reason reason, __u32 rule)
{
	/* Of a connection whose messages are encrypted, its first packet is all that there is to see. */
	int encrypted = direction == DIRECTION_EGRESS && packet->destination_port == DNS_ENCRYPTED_PORT &&
			reason != REASON_PASS_ESTABLISHED && reason != REASON_PASS_REPLY;

	if (!encrypted && !packet_is_dns(packet, direction))
		return;
	skb->cb[0] = reason;
	skb->cb[1] = id;
	skb->cb[2] = rule;
	skb->cb[3] = 0;
	if (place == PLACE_INTERFACE)
		bpf_tail_call(skb, &pod_dns, direction);
	else if (direction == DIRECTION_EGRESS)
		bpf_tail_call(skb, &sent_dns, 0);
	else
		bpf_tail_call(skb, &received_dns, 0);
}

static __always_inline int endpoint_packet(struct __sk_buff *skb, __u32 id, enum direction direction, const enum place place)
{
	struct tracking tracking = {};
	struct judgement judgement = {};
	struct judged judged = {};
	struct question question;
	struct policy_state *policy;
	struct plugin_state *plugin;
	struct connection *connection;
	struct endpoint *endpoint;
	struct packet packet = {};
	enum reason allowed;
	enum parsed parsed;
	__u32 zero = 0;
	int answer = 0;
	struct ask *ask;

	/* Before the maps that it stands for: what is judged while they change is judged again. */
	policy = bpf_map_lookup_elem(&policy_states, &zero);
	if (!policy)	/* not possible: an array map's first entry */
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	judged.revision = *(volatile __u32 *)&policy->revision;
	judged.direction = direction;
	parsed = packet_parse(skb, &packet, place == PLACE_INTERFACE ? sizeof(struct ethhdr) : 0);
	if (parsed == PARSED_NOT_IP)
		return pass(skb, REASON_PASS_NOT_IP);
	if (parsed == PARSED_NEIGHBOR)
		return pass(skb, REASON_PASS_NEIGHBOR);
	if (parsed == PARSED_FLOW) {
		tracking.now_ns = bpf_ktime_get_coarse_ns();
		connection_key_fill(&tracking.key, &packet, id, direction);
		connection_find(&tracking, policy, &packet, direction);
	}
	connection = tracking.connection;
	if (connection) {
		answer = connection->direction != direction;
		judged.direction = connection->direction;
		if (place == PLACE_INTERFACE)
			judged.path = connection->path;
		if (connection->revision == judged.revision && (answer || connection_is_current(connection))) {
			connection_touch(skb, &tracking, policy, &packet, direction);
			judged.unread = connection->flags & CONNECTION_UNREAD;
			allowed = answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED;
			goto passed;
		}
	}

	if (!connection && place == PLACE_INTERFACE && direction == DIRECTION_INGRESS && packet_is_proxied(skb, &zero))
		judged.path = FLOW_PATH_PROXY;
	endpoint = bpf_map_lookup_elem(&endpoints, &id);
	if (!endpoint)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	if (parsed == PARSED_MALFORMED)
		return endpoint_rule_set(endpoint, direction) == RULE_SET_NONE ? pass(skb, REASON_PASS_MALFORMED)
										: drop(skb, REASON_DROP_MALFORMED);
	if (place == PLACE_INTERFACE && direction == DIRECTION_EGRESS && !endpoint_owns(endpoint, packet.source))
		return drop(skb, REASON_DROP_SPOOFED);
	if (parsed == PARSED_LATER_FRAGMENT)
		return endpoint_later_fragment(skb, endpoint, id, &packet, direction);

	question.peer = direction == DIRECTION_EGRESS ? packet.destination : packet.source;
	if (endpoint_is_self(skb, endpoint, question.peer, direction, place)) {
		allowed = REASON_PASS_SELF;
		goto passed;
	}
	if (place == PLACE_CGROUP && loopback_address(question.peer)) {
		allowed = REASON_PASS_LOOPBACK;
		goto passed;
	}
	question.direction = judged.direction;
	question.protocol = packet.protocol;
	question.port = bpf_ntohs(answer ? packet.source_port : packet.destination_port);
	question.tracked = connection != NULL;
	question.endpoint = id;
	question.trusts_node = answer || packet_trusts_node(skb, direction, place);
	endpoint_judge(endpoint, &question, &judgement);
	judged.peer_identity = judgement.peer_identity;
	allowed = judgement.reason;
	if (judgement.rule.action == ACTION_ALLOW)
		goto track;
	if (packet.reports_error && endpoint_is_related(skb, &tracking, policy, &packet, id, direction)) {
		allowed = REASON_PASS_RELATED;
		goto passed;
	}

	ask = bpf_map_lookup_elem(&questions, &zero);
	if (!ask)	/* not possible: an array map's first entry */
		return drop(skb, REASON_FAIL_HOLD);
	ask_fill(ask, skb, &packet, &judgement, id, direction, endpoint->identity, connection != NULL);
	if (judgement.rule.action != ACTION_ASK) {
		endpoint_dns(skb, id, &packet, direction, place, REASON_DROP_POLICY, judgement.rule.id);
		return deny(skb, ask, REASON_DROP_POLICY);
	}
	if (place == PLACE_INTERFACE) {
		skb->cb[1] = id;
		skb->cb[2] = judged.revision;
	} else if (direction == DIRECTION_EGRESS && !answer && judgement.rule.context == CONTEXT_HTTP) {	/* see connect.h */
		skb->cb[1] = id;
		skb->cb[2] = judged.revision;
		bpf_tail_call(skb, &sent_requests, 0);
	}
	plugin = plugin_find(judgement.rule.plugin);
	if (place == PLACE_INTERFACE && judgement.rule.context == CONTEXT_HTTP && judged.path == FLOW_PATH_PROXY) {	/* whatever the proxy goes by, it knows */
		allowed = answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED;
		goto track;
	}
	if (!plugin || plugin->status != PLUGIN_ON) {
		endpoint_requests(skb, &judgement, place, REQUESTS_FALLBACK, REASON_FAIL_PLUGIN_OFF);
		return failure_policy(skb, ask, plugin, REASON_FAIL_PLUGIN_OFF);
	}
	judged.plugin = judgement.rule.plugin;
	judged.epoch = plugin->epoch;
	judged.context = judgement.rule.context;
	/* A change of policy that still asks the same plugin the same about the same peer has been answered already. */
	if (connection && connection->plugin == judged.plugin && connection->context == judged.context &&
	    connection->peer_identity == judged.peer_identity &&
	    (connection->epoch == plugin->epoch || (connection->flags & CONNECTION_READ) || judged.context == CONTEXT_HTTP)) {
		judged.unread = connection->flags & (CONNECTION_UNREAD | CONNECTION_READ);
		allowed = answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED;
		goto track;
	}
	if (answer) {	/* the plugin is asked about packets of the side that opened the connection */
		allowed = REASON_PASS_REPLY;
		goto passed;
	}
	if (judgement.rule.context == CONTEXT_TLS && place == PLACE_INTERFACE) {
		if (packet.protocol != IPPROTO_TCP)
			return deny(skb, ask, REASON_DROP_QUIC);
		if (packet.opens && packet.data)
			return deny(skb, ask, REASON_DROP_EARLY_DATA);
		judged.unread = 1;
		allowed = REASON_PASS_POLICY;
		goto track;
	}
	if (judgement.rule.context == CONTEXT_HTTP && place == PLACE_INTERFACE && !packet.opens) {
		endpoint_requests(skb, &judgement, place, REQUESTS_REFUSE, REASON_DROP_NOT_PROXIED);
		return deny(skb, ask, REASON_DROP_NOT_PROXIED);
	}
	switch (verdict_find(ask, plugin, tracking.now_ns, skb->len)) {
	case VERDICT_ALLOW:
		allowed = REASON_PASS_VERDICT;
		break;
	case VERDICT_DENY:
		endpoint_requests(skb, &judgement, place, REQUESTS_REFUSE, REASON_DROP_VERDICT);
		return deny(skb, ask, REASON_DROP_VERDICT);
	case VERDICT_ROUTE:
		endpoint_requests(skb, &judgement, place, REQUESTS_ROUTE, REASON_PASS_ROUTED);
		return deny(skb, ask, REASON_DROP_NO_BACKEND);
	default:
		if (judgement.rule.context == CONTEXT_HTTP && place == PLACE_INTERFACE) {
			bpf_tail_call(skb, &proxy_stage, 0);
			endpoint_requests(skb, &judgement, place, REQUESTS_FALLBACK, REASON_FAIL_PROXY_ABSENT);
		}
		if (place != PLACE_INTERFACE)
			return failure_policy(skb, ask, plugin, REASON_FAIL_CANNOT_HOLD);
		bpf_tail_call(skb, &hold_stage, 0);
		return failure_policy(skb, ask, plugin, REASON_FAIL_ENGINE_ABSENT);
	}

track:
	if (connection || endpoint_tracks(id, &packet, direction))
		connection_track(skb, &tracking, policy, &packet, &judged, direction);
passed:
	if (place == PLACE_INTERFACE && judged.path == FLOW_PATH_PROXY) {
		if (direction == DIRECTION_EGRESS)
			return proxy_send(skb, allowed);
		if (!packet_is_proxied(skb, &zero))
			bpf_tail_call(skb, &pod_requests, REQUESTS_RETURN);
	}
	if (place == PLACE_INTERFACE && judged.path == FLOW_PATH_BACKEND)
		endpoint_translate(skb, id, direction, allowed);
	if (place == PLACE_INTERFACE && judged.unread)
		endpoint_hello(skb, id, direction, allowed);
	if (packet.first_fragment)
		endpoint_note_fragment(&packet, id, direction);
	endpoint_dns(skb, id, &packet, direction, place, allowed, 0);
	return pass(skb, allowed);
}

#endif
