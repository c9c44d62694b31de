/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections of which a plugin or a list of server names decides by the hello of TLS.
 *
 * They open as policy lets them; what the client says then is held, packet by packet, until the engine has read all of the
 * hello and sends it on. Until the server has acknowledged the last of it, nothing before its end passes but what the engine
 * sends: a client that says something else in the same place is not heard. From then on everything passes.
 *
 * Entered by tail call with the reason so far in cb[0] and the endpoint in cb[1]; with cb[3] by the failure policy: let it pass.
 */
#ifndef SLUICE_HELLO_H
#define SLUICE_HELLO_H

#include "decided.h"
#include "endpoint.h"

/* Writes a connection that was found back, where it is a copy of its slot. */
static __always_inline void connection_store(struct __sk_buff *skb, struct tracking *tracking)
{
	if (tracking->slot)
		opening_write(skb, tracking, tracking->connection);
}

static __always_inline int sequence_reaches(__u32 sequence, __u32 end)
{
	return (__s32)(sequence - end) >= 0;
}

/* Takes note that everything up to end was let through. */
static __always_inline void hello_decide(struct __sk_buff *skb, struct tracking *tracking, __u32 end)
{
	struct connection *connection = tracking->connection;

	if (!(connection->flags & CONNECTION_DECIDED) || sequence_reaches(end, connection->sequence))
		connection->sequence = end;
	connection->flags |= CONNECTION_DECIDED;
	connection_store(skb, tracking);
}

/* Asks about a packet, as policy says by now; without an engine its failure policy decides. */
static __always_inline int hello_ask(struct __sk_buff *skb, struct tracking *tracking, const struct packet *packet, __u32 id,
				     enum direction direction, __u32 end)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &id);
	struct judgement judgement = {};
	struct question question = {
		.peer = direction == DIRECTION_EGRESS ? packet->destination : packet->source,
		.port = bpf_ntohs(packet->destination_port),
		.protocol = packet->protocol,
		.direction = direction,
		.trusts_node = 1,
		.tracked = 1,
		.endpoint = id,
	};
	struct plugin_state *plugin;
	__u32 zero = 0;
	struct ask *ask = bpf_map_lookup_elem(&questions, &zero);
	int outcome;

	if (!endpoint || !ask)
		return drop(skb, REASON_DROP_NO_ENDPOINT);
	endpoint_judge(endpoint, &question, &judgement);
	ask_fill(ask, skb, packet, &judgement, id, direction, endpoint->identity,
		 tracking->connection->flags & CONNECTION_PICKED_UP);
	ask->sequence = tracking->connection->sequence;
	if (tracking->connection->flags & CONNECTION_DECIDED)
		ask->flags |= ASK_AGAIN;
	if (judgement.rule.action == ACTION_DENY)
		return deny(skb, ask, REASON_DROP_POLICY);
	/* Policy changed since the packet was judged: it does not ask any more, or something else, and that when the packet comes again. */
	if (judgement.rule.action == ACTION_ALLOW)
		return pass(skb, REASON_PASS_POLICY);
	if (judgement.rule.context != CONTEXT_TLS)
		return drop(skb, REASON_DROP_POLICY);
	plugin = plugin_find(ask->plugin);
	if (plugin && plugin->status == PLUGIN_ON)
		bpf_tail_call(skb, &hold_stage, 0);
	outcome = failure_policy(skb, ask, plugin, plugin && plugin->status == PLUGIN_ON ? REASON_FAIL_ENGINE_ABSENT : REASON_FAIL_PLUGIN_OFF);
	if (outcome == OUTCOME_NEXT)
		hello_decide(skb, tracking, end);
	return outcome;
}

static __always_inline int hello_packet(struct __sk_buff *skb, enum direction direction)
{
	__u32 zero = 0, reason = skb->cb[0], id = skb->cb[1], sequence, end;
	struct policy_state *policy = bpf_map_lookup_elem(&policy_states, &zero);
	struct tracking tracking = {};
	struct packet packet = {};
	struct connection *connection;
	struct tcphdr buffer, *tcp;
	enum decided decided;
	int opens;

	if (!policy || packet_parse(skb, &packet, sizeof(struct ethhdr)) != PARSED_FLOW || packet.protocol != IPPROTO_TCP)
		return drop(skb, REASON_DROP_MALFORMED);
	tcp = packet_read(skb, packet.transport_offset, &buffer, sizeof(buffer));
	if (!tcp)
		return drop(skb, REASON_DROP_MALFORMED);
	/* Servers leave urgent bytes out of the stream, and a fragment says what another one does not: nobody needs either here. */
	if (tcp->urg || packet.first_fragment)
		return drop(skb, REASON_DROP_UNREADABLE);
	sequence = bpf_ntohl(tcp->seq);
	end = sequence + packet.data;
	decided = packet_decided(skb);
	opens = packet.opens;
	packet.opens = 0;	/* it is tracked by now */
	tracking.now_ns = bpf_ktime_get_coarse_ns();
	connection_key_fill(&tracking.key, &packet, id, direction);
	connection_find(&tracking, policy, &packet, direction);
	connection = tracking.connection;
	if (!connection)	/* another connection took its slot meanwhile */
		return drop(skb, REASON_FAIL_OPENING_LOST);
	if (!(connection->flags & CONNECTION_UNREAD))
		return pass(skb, reason);
	if (connection->direction != direction) {
		/* A SYN on top of a connection that the server has would tell us of another stream than it hears. */
		if (tcp->syn && tcp->ack && bpf_ntohl(tcp->ack_seq) == connection->sequence) {
			connection->flags |= CONNECTION_BEGUN;
			connection_store(skb, &tracking);
		}
		if ((connection->flags & CONNECTION_DECIDED) && tcp->ack &&
		    sequence_reaches(bpf_ntohl(tcp->ack_seq), connection->sequence)) {
			connection->flags = (connection->flags & ~(CONNECTION_UNREAD | CONNECTION_DECIDED | CONNECTION_BEGUN)) | CONNECTION_READ;
			connection_store(skb, &tracking);
		}
		return pass(skb, reason);
	}
	if (opens) {
		connection->sequence = sequence + 1;
		connection_store(skb, &tracking);
		return pass(skb, reason);
	}
	if (!packet.data)
		return pass(skb, reason);
	if (!(connection->flags & (CONNECTION_BEGUN | CONNECTION_PICKED_UP)))
		return drop(skb, REASON_DROP_EARLY_DATA);
	if (decided == DECIDED_ALL || skb->cb[3]) {
		hello_decide(skb, &tracking, end);
		return pass(skb, REASON_PASS_VERDICT);
	}
	if (decided == DECIDED_PACKET)
		return pass(skb, REASON_PASS_VERDICT);
	if ((connection->flags & CONNECTION_DECIDED) && sequence_reaches(sequence, connection->sequence))
		return pass(skb, reason);
	return hello_ask(skb, &tracking, &packet, id, direction, end);
}

SEC("tc")
int hello_from_pod(struct __sk_buff *skb)
{
	return hello_packet(skb, DIRECTION_EGRESS);
}

SEC("tc")
int hello_to_pod(struct __sk_buff *skb)
{
	return hello_packet(skb, DIRECTION_INGRESS);
}

#endif
