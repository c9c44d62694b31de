/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections of which a plugin or a list of server names decides by the hello of TLS.
 *
 * They open as policy lets them; what the client says then is held, packet by packet, until the engine has read all of the
 * hello and sends it on. Until the server has acknowledged the last of it, nothing before its end passes but what the engine
 * sends: a client that says something else in the same place is not heard. From then on everything passes.
 *
 * Entered with the reason that it passes by so far, or once more when its failure policy lets pass what cannot be held.
 */
#ifndef SLUICE_HELLO_H
#define SLUICE_HELLO_H

#include "engine.h"
#include "failure.h"
#include "leave.h"

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

	if (!(connection->flags & CONNECTION_DECIDED) || sequence_reaches(end, connection->read_to))
		connection->read_to = end;
	connection->flags |= CONNECTION_DECIDED;
	connection_store(skb, tracking);
}

/* Asks about a packet, as policy says by now; without an engine its failure policy decides. */
static __always_inline int hello_ask(struct __sk_buff *skb, struct journey *journey, struct tracking *tracking,
				     const enum hook hook)
{
	enum direction direction = hook_direction(hook);
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &journey->endpoint);
	const struct rule *rule = &journey->judgement.rule;
	const struct packet *packet = &journey->packet;
	struct plugin_state *plugin;
	struct flow flow;
	struct ask *ask;

	if (!endpoint)
		return packet_drop(skb, journey, direction, REASON_DROP_NO_ENDPOINT);
	flow_of_packet(&flow, packet, journey->endpoint, direction, 0);
	flow.tracked = 1;
	endpoint_judge(endpoint, &flow, &journey->judgement);
	ask = ask_fill(journey, endpoint, direction, direction == DIRECTION_EGRESS ? name_find(journey->endpoint, packet->destination) : 0);
	ask_fill_packet(ask, skb, packet);
	ask->read_to = tracking->connection->read_to;
	if (tracking->connection->flags & CONNECTION_PICKED_UP)
		ask->flags |= ASK_ESTABLISHED;
	if (tracking->connection->flags & CONNECTION_DECIDED)
		ask->flags |= ASK_AGAIN;
	if (rule->action == ACTION_DENY)
		return deny(skb, ask, REASON_DROP_POLICY);
	/* Policy changed since the packet was judged: it does not ask any more, or something else, and that when the packet comes again. */
	if (rule->action == ACTION_ALLOW)
		return packet_pass(skb, journey, REASON_PASS_POLICY, hook);
	if (rule->context != CONTEXT_TLS)
		return deny(skb, ask, REASON_DROP_POLICY);
	plugin = plugin_find(ask->plugin);
	if (plugin_is_on(plugin))
		enter_hold(skb);
	journey->failed_open = 1;
	return failure_policy(skb, ask, plugin, plugin_is_on(plugin) ? REASON_FAIL_ENGINE_ABSENT : REASON_FAIL_PLUGIN_OFF);
}

/* A packet of the server: its answers say which stream it hears, and what of it it has. */
static __always_inline void hello_answer(struct __sk_buff *skb, struct tracking *tracking, const struct tcphdr *tcp)
{
	struct connection *connection = tracking->connection;
	__u32 heard = bpf_ntohl(tcp->ack_seq);

	/* A SYN on top of a connection that the server has would tell us of another stream than it hears. */
	if (tcp->syn && tcp->ack && heard == connection->read_to) {
		connection->flags |= CONNECTION_BEGUN;
		connection_store(skb, tracking);
	}
	if ((connection->flags & CONNECTION_DECIDED) && tcp->ack && sequence_reaches(heard, connection->read_to)) {
		connection->flags &= ~(CONNECTION_UNREAD | CONNECTION_DECIDED | CONNECTION_BEGUN);
		connection->flags |= CONNECTION_READ;
		connection_store(skb, tracking);
	}
}

/* A packet of the client. */
static __always_inline int hello_client(struct __sk_buff *skb, struct journey *journey, struct tracking *tracking,
					const enum hook hook, __u32 sequence)
{
	struct connection *connection = tracking->connection;
	__u32 end = sequence + journey->packet.data;
	int outcome;

	if (journey->packet.opens) {
		connection->read_to = sequence + 1;
		connection_store(skb, tracking);
		return packet_pass(skb, journey, journey->reason, hook);
	}
	if (!journey->packet.data)
		return packet_pass(skb, journey, journey->reason, hook);
	if (!(connection->flags & (CONNECTION_BEGUN | CONNECTION_PICKED_UP)))
		return packet_drop(skb, journey, hook_direction(hook), REASON_DROP_EARLY_DATA);
	if (journey->decided == DECIDED_ALL || journey->failed_open) {
		hello_decide(skb, tracking, end);
		return packet_pass(skb, journey, REASON_PASS_VERDICT, hook);
	}
	if (journey->decided == DECIDED_PACKET)
		return packet_pass(skb, journey, REASON_PASS_VERDICT, hook);
	if ((connection->flags & CONNECTION_DECIDED) && sequence_reaches(sequence, connection->read_to))
		return packet_pass(skb, journey, journey->reason, hook);
	outcome = hello_ask(skb, journey, tracking, hook);
	if (outcome != OUTCOME_NEXT || !journey->failed_open)
		return outcome;
	hello_decide(skb, tracking, end);
	return packet_go(skb, journey, hook);
}

static __always_inline int hello_packet(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
					const enum hook hook)
{
	enum direction direction = hook_direction(hook);
	struct packet *packet = &journey->packet;
	struct tracking tracking;
	struct tcphdr buffer, *tcp;

	if (packet->protocol != IPPROTO_TCP)	/* not possible: others have no connection that is read */
		return packet_drop(skb, journey, direction, REASON_DROP_MALFORMED);
	tcp = packet_read(skb, packet->transport_offset, &buffer, sizeof(buffer));
	if (!tcp)
		return packet_drop(skb, journey, direction, REASON_DROP_MALFORMED);
	/* Servers leave urgent bytes out of the stream, and a fragment says what another one does not: nobody needs either here. */
	if (tcp->urg || packet->first_fragment)
		return packet_drop(skb, journey, direction, REASON_DROP_UNREADABLE);
	tracking_begin(&tracking, journey, policy, direction);
	connection_seek(&tracking, direction);	/* a SYN's, too: it is tracked by now */
	if (!tracking.connection)	/* another connection took its slot meanwhile */
		return packet_drop(skb, journey, direction, REASON_FAIL_OPENING_LOST);
	if (!(tracking.connection->flags & CONNECTION_UNREAD))
		return packet_pass(skb, journey, journey->reason, hook);
	if (tracking.connection->direction == direction)
		return hello_client(skb, journey, &tracking, hook, bpf_ntohl(tcp->seq));
	hello_answer(skb, &tracking, tcp);
	return packet_pass(skb, journey, journey->reason, hook);
}

static __always_inline int hello_stage(struct __sk_buff *skb, const enum hook hook)
{
	struct journey *journey = journey_resume(skb, hook);
	struct policy_state *policy = policy_state();

	if (!journey || !policy)	/* not possible */
		return drop(skb, REASON_FAIL_STAGE);
	return journey_end(journey, hello_packet(skb, journey, policy, hook), hook);
}

SEC("tc")
int hello_from_pod(struct __sk_buff *skb)
{
	return hello_stage(skb, HOOK_FROM_POD);
}

SEC("tc")
int hello_to_pod(struct __sk_buff *skb)
{
	return hello_stage(skb, HOOK_TO_POD);
}

#endif
