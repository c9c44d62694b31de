/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The journey of a packet through an endpoint: parse, connection, identity of the peer, rule, verdict, hold.
 *
 * from_pod stands at the tc ingress of the host side of a pod's veth, to_pod at its egress; they are the same program
 * but for the direction. hold is reached through hold_stage, which is open only while an engine lives. release stands
 * at the egress of the engine's own veth and sends a held packet back to the interface that it came from.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "conntrack.h"
#include "counters.h"
#include "hold.h"
#include "maps.h"
#include "packet.h"
#include "policy.h"
#include "verdict.h"

/* As ip_frag: a datagram whose fragments have not all come after 30 s is given up (net.ipv4.ipfrag_time). */
#define FRAGMENTS_NS (30 * SECOND_NS)
#define LINK_LOCAL_PREFIX bpf_htonl(0xfe800000)
#define LINK_LOCAL_MASK bpf_htonl(0xffc00000)

/* Whether nothing isolates or tags this direction of the endpoint. */
static __always_inline int endpoint_open(const struct endpoint *endpoint, enum direction direction)
{
	return !endpoint->rule_sets[direction];
}

/*
 * Whether the endpoint may send from this address: its own, or what IPv6 needs before it has one. An endpoint whose
 * addresses are not known yet may send from none.
 */
static __always_inline int endpoint_owns(const struct endpoint *endpoint, const struct packet *packet)
{
	const __u32 *source = (const __u32 *)packet->source;

	if (address_equals(packet->source, endpoint->ipv4) || address_equals(packet->source, endpoint->ipv6))
		return 1;
	return (source[0] & LINK_LOCAL_MASK) == LINK_LOCAL_PREFIX;
}

static __always_inline void fragment_key_fill(struct fragment_key *key, const struct packet *packet, __u32 ifindex,
					      enum direction direction)
{
	__builtin_memcpy(key->source, packet->source, 16);
	__builtin_memcpy(key->destination, packet->destination, 16);
	key->id = packet->fragment_id;
	key->ifindex = ifindex;
	key->protocol = packet->protocol;
	key->direction = direction;
}

/* Later fragments have no ports: they follow the first one, which the kernels of our age send first. */
static __always_inline int endpoint_later_fragment(struct __sk_buff *skb, const struct endpoint *endpoint,
						   const struct packet *packet, enum direction direction)
{
	struct fragment_key key = {};
	__u64 *until_ns;

	if (endpoint_open(endpoint, direction))
		return pass(skb, REASON_PASS_FRAGMENT);
	fragment_key_fill(&key, packet, skb->ifindex, direction);
	until_ns = bpf_map_lookup_elem(&fragments, &key);
	if (until_ns && *until_ns > bpf_ktime_get_ns())
		return pass(skb, REASON_PASS_FRAGMENT);
	return drop(skb, REASON_DROP_FRAGMENT);
}

static __always_inline void endpoint_note_fragment(struct __sk_buff *skb, const struct packet *packet,
						   enum direction direction)
{
	struct fragment_key key = {};
	__u64 until_ns = bpf_ktime_get_ns() + FRAGMENTS_NS;

	fragment_key_fill(&key, packet, skb->ifindex, direction);
	bpf_map_update_elem(&fragments, &key, &until_ns, BPF_ANY);
}

static __always_inline void ask_fill(struct ask *ask, struct __sk_buff *skb, const struct packet *packet,
				     const struct rule *rule, enum direction direction, __u32 own_identity,
				     __u32 peer_identity, int established)
{
	int egress = direction == DIRECTION_EGRESS;

	__builtin_memset(ask, 0, sizeof(*ask));
	ask->time_ns = bpf_ktime_get_ns();
	__builtin_memcpy(ask->source, packet->source, 16);
	__builtin_memcpy(ask->destination, packet->destination, 16);
	ask->source_identity = egress ? own_identity : peer_identity;
	ask->destination_identity = egress ? peer_identity : own_identity;
	ask->ifindex = skb->ifindex;
	ask->rule = rule->id;
	ask->plugin = rule->plugin;
	ask->gso_size = skb->gso_size;
	ask->source_port = packet->source_port;
	ask->destination_port = packet->destination_port;
	ask->network_offset = packet->network_offset;
	ask->transport_offset = packet->transport_offset;
	ask->protocol = packet->protocol;
	ask->direction = direction;
	ask->context = rule->context;
	ask->flags = established ? ASK_ESTABLISHED : 0;
	if (skb->vlan_present) {
		ask->flags |= ASK_VLAN;
		ask->vlan_tci = skb->vlan_tci;
		ask->vlan_protocol = skb->vlan_proto;
	}
}

/* Whether the plugin that allowed the connection still is the one that would. */
static __always_inline int connection_is_current(const struct connection *connection)
{
	struct plugin_state *plugin;

	if (!connection->plugin)
		return 1;
	plugin = plugin_find(connection->plugin);
	return plugin && plugin->status == PLUGIN_ON && plugin->epoch == connection->epoch;
}

static __always_inline int endpoint_packet(struct __sk_buff *skb, enum direction direction)
{
	__u32 ifindex = skb->ifindex, zero = 0;
	struct connection judged = { .direction = direction };
	struct connection *connection = NULL;
	struct connection_key key = {};
	struct policy_state *policy;
	struct plugin_state *plugin;
	struct endpoint *endpoint;
	struct packet packet = {};
	struct rule rule;
	enum reason allowed;
	enum parsed parsed;
	struct ask *ask;
	__u64 now_ns = 0;

	/* Before the maps that it stands for: what is judged while they change is judged again. */
	policy = bpf_map_lookup_elem(&policy_states, &zero);
	if (!policy)	/* not possible: an array map's first entry */
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	judged.revision = *(volatile __u32 *)&policy->revision;
	parsed = packet_parse(skb, &packet);
	if (parsed == PARSED_NOT_IP)
		return pass(skb, REASON_PASS_NOT_IP);
	if (parsed == PARSED_NEIGHBOR)
		return pass(skb, REASON_PASS_NEIGHBOR);
	if (parsed == PARSED_FLOW) {
		now_ns = bpf_ktime_get_coarse_ns();
		connection_key_fill(&key, &packet, ifindex, direction);
		connection = connection_find(&key, &packet, direction, now_ns);
	}
	if (connection && connection->direction != direction) {
		connection_touch(connection, &packet, direction, now_ns);
		allowed = REASON_PASS_REPLY;
		goto passed;
	}
	if (connection && connection->revision == judged.revision && connection_is_current(connection)) {
		connection_touch(connection, &packet, direction, now_ns);
		allowed = REASON_PASS_ESTABLISHED;
		goto passed;
	}

	endpoint = bpf_map_lookup_elem(&endpoints, &ifindex);
	if (!endpoint)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	if (parsed == PARSED_MALFORMED)
		return endpoint_open(endpoint, direction) ? pass(skb, REASON_PASS_MALFORMED)
							  : drop(skb, REASON_DROP_MALFORMED);
	if (direction == DIRECTION_EGRESS && !endpoint_owns(endpoint, &packet))
		return drop(skb, REASON_DROP_SPOOFED);
	if (parsed == PARSED_LATER_FRAGMENT)
		return endpoint_later_fragment(skb, endpoint, &packet, direction);

	if (endpoint_open(endpoint, direction)) {
		allowed = REASON_PASS_NOT_ISOLATED;
		goto track;
	}
	judged.peer_identity = identity_find(direction == DIRECTION_EGRESS ? packet.destination : packet.source);
	/* "Traffic to and from the node where a pod is running is always allowed" (NetworkPolicy v1). No other sender
	 * can claim the node's address: what comes from the node itself entered through no interface. */
	if (judged.peer_identity == IDENTITY_NODE && (direction == DIRECTION_EGRESS || !skb->ingress_ifindex)) {
		allowed = REASON_PASS_NODE;
		goto track;
	}
	rule = policy_find(endpoint->rule_sets[direction], judged.peer_identity, &packet);
	if (rule.action == ACTION_ALLOW) {
		allowed = REASON_PASS_POLICY;
		goto track;
	}

	ask = bpf_map_lookup_elem(&questions, &zero);
	if (!ask)	/* not possible: an array map's first entry */
		return drop(skb, REASON_FAIL_HOLD);
	ask_fill(ask, skb, &packet, &rule, direction, endpoint->identity, judged.peer_identity, connection != NULL);
	if (rule.action != ACTION_ASK)
		return deny(skb, ask, REASON_DROP_POLICY);
	plugin = plugin_find(rule.plugin);
	if (!plugin || plugin->status != PLUGIN_ON)
		return failure_policy(skb, ask, plugin, REASON_FAIL_PLUGIN_OFF);
	judged.plugin = rule.plugin;
	judged.epoch = plugin->epoch;
	/* A change of policy that still asks the same plugin about the same peer has been answered already. */
	if (connection && connection->plugin == rule.plugin && connection->epoch == plugin->epoch &&
	    connection->peer_identity == judged.peer_identity) {
		allowed = REASON_PASS_ESTABLISHED;
		goto track;
	}
	switch (verdict_find(ask, plugin, now_ns)) {
	case VERDICT_ALLOW:
		allowed = REASON_PASS_VERDICT;
		break;
	case VERDICT_DENY:
		return deny(skb, ask, REASON_DROP_VERDICT);
	default:
		bpf_tail_call(skb, &hold_stage, 0);
		return failure_policy(skb, ask, plugin, REASON_FAIL_ENGINE_ABSENT);
	}

track:
	if (connection_track(&key, &packet, &judged, now_ns))
		count(skb, REASON_FAIL_CONNTRACK_FULL);
passed:
	if (packet.first_fragment)
		endpoint_note_fragment(skb, &packet, direction);
	return pass(skb, allowed);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return endpoint_packet(skb, DIRECTION_EGRESS);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return endpoint_packet(skb, DIRECTION_INGRESS);
}

/* Entered by tail call with the question of this CPU filled in. The packet is dropped either way: held, or failed. */
SEC("tc")
int hold(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct ask *question = bpf_map_lookup_elem(&questions, &zero);
	struct engine_state *engine = bpf_map_lookup_elem(&engine_states, &zero);
	struct plugin_state *plugin;
	enum reason reason;

	if (!question || !engine)
		return drop(skb, REASON_FAIL_HOLD);
	plugin = plugin_find(question->plugin);
	/* The heartbeat may be written by another CPU after time_ns was read: compare without going below zero. */
	if (engine->heartbeat_ns + engine->stale_ns < question->time_ns)
		return failure_policy(skb, question, plugin, REASON_FAIL_ENGINE_STALE);
	reason = hold_packet(skb, question);
	if (reason != REASON_HELD)
		return failure_policy(skb, question, plugin, reason);
	return drop(skb, REASON_HELD);
}

/* A packet that the engine sends on its own veth, marked with the interface that it was held at. */
SEC("tc")
int release(struct __sk_buff *skb)
{
	__u32 ifindex = skb->mark;

	if (!ifindex)
		return OUTCOME_DROP;
	skb->mark = 0;
	return bpf_redirect(ifindex, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "GPL";
