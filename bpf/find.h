/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The entries of the chain: where packets of pods and of processes come in.
 *
 * A packet of a known connection passes at once. Every other is parsed, and its connection looked for; one that stands as it was
 * judged goes on by its path, everything else to be judged.
 */
#ifndef SLUICE_FIND_H
#define SLUICE_FIND_H

#include "describe.h"
#include "engine.h"
#include "known.h"
#include "leave.h"

/* The state in which the connection of a packet was found. */
enum standing {
	STANDS_NOT,		/* it is to be judged */
	STANDS,
	STANDS_SERVICE,		/* it has a backend, under whose address it may stand */
};

/*
 * Takes over what is known of the other address of a connection. Its entry under a Service's address means something to what the pod
 * sends there only; what a pod sends to a backend itself is of another connection, whatever is known under that address.
 */
static __always_inline void journey_follow(struct journey *journey, const struct connection *connection, const enum hook hook)
{
	struct judged *judged = &journey->judged;

	judged->path = connection->path & ~(FLOW_PATH_SERVICE | FLOW_PATH_ONLY);
	if (hook == HOOK_FROM_POD)
		judged->path &= ~FLOW_PATH_BACKEND;
	judged->service = connection->service;
	judged->other = connection->other;
}

/* Looks for the connection of a packet, and notes the packet in it where that stands as it was judged. */
static __always_inline enum standing connection_stands(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
						       const enum hook hook)
{
	struct tracking tracking;
	struct connection *connection;

	tracking_begin(&tracking, journey, policy, hook_direction(hook));
	connection_find(&tracking, hook_direction(hook));
	connection = tracking.connection;
	if (connection && connection->path && hook_is_interface(hook)) {
		journey_follow(journey, connection, hook);
		if (connection->path & FLOW_PATH_SERVICE && hook == HOOK_FROM_POD) {
			journey->signposted = 1;
			tracking_leave(&tracking, journey);
			return STANDS_SERVICE;
		}
		if (connection->path & (FLOW_PATH_SERVICE | FLOW_PATH_ONLY))
			tracking.connection = connection = NULL;
	}
	tracking_leave(&tracking, journey);
	if (!connection)
		return STANDS_NOT;
	journey->answer = connection->direction != hook_direction(hook);
	journey->judged.direction = connection->direction;
	if (connection->revision != journey->judged.revision || (!journey->answer && !connection_is_current(connection)))
		return STANDS_NOT;
	connection_touch(skb, &tracking, hook_direction(hook));
	journey->judged.unread = connection->flags & CONNECTION_UNREAD;
	journey_allow(journey, journey->answer ? REASON_PASS_REPLY : REASON_PASS_ESTABLISHED);
	return STANDS;
}

static __always_inline int packet_find(struct __sk_buff *skb, struct journey *journey, const struct policy_state *policy,
				       const enum hook hook)
{
	enum standing standing = STANDS_NOT;

	journey->judged.direction = hook_direction(hook);
	journey->parsed = packet_parse(skb, &journey->packet, hook_link_header(hook));
	if (journey->parsed == PARSED_NOT_IP)
		return pass(skb, REASON_PASS_NOT_IP);
	if (journey->parsed == PARSED_NEIGHBOR)
		return pass(skb, REASON_PASS_NEIGHBOR);
	/* An error is of the connection that it is about. */
	if (journey->parsed == PARSED_FLOW && !journey->packet.reports_error)
		standing = connection_stands(skb, journey, policy, hook);
	if (standing == STANDS)
		return packet_leave(skb, journey, hook, LEAVE_UNREAD);
	if (hook == HOOK_FROM_POD && standing == STANDS_SERVICE)
		enter_to_backend(skb);
	else
		enter_judge(skb, hook);
	return packet_drop(skb, journey, hook_direction(hook), REASON_FAIL_STAGE);
}

static __always_inline int packet_enter(struct __sk_buff *skb, __u32 endpoint, const enum hook hook)
{
	struct policy_state *policy = policy_state();
	enum decided decided = DECIDED_NOTHING;
	struct journey *journey;
	__u32 revision;

	/* Nothing of a process's can be held. */
	if (hook_is_interface(hook)) {
		if (hook == HOOK_TO_POD && skb->mark && packet_is_refusal(skb))
			return pass(skb, REASON_PASS_RELATED);
		if (skb->mark)
			decided = packet_decided(skb);
	}
	if (!policy)	/* not possible: an array map's first entry */
		return hook_outcome(drop(skb, REASON_DROP_NO_ENDPOINT), hook);
	/* Before the maps that it stands for: what is judged while they change is judged again. */
	revision = *(volatile __u32 *)&policy->revision;
	if (packet_is_known(skb, policy, endpoint, hook))
		return hook_outcome(OUTCOME_NEXT, hook);
	journey = journey_begin(skb, endpoint, hook);
	if (!journey) {
		unread_record_write(endpoint, hook_direction(hook), REASON_FAIL_BUSY);
		return hook_outcome(drop(skb, REASON_FAIL_BUSY), hook);
	}
	journey->judged.revision = revision;
	journey->decided = decided;
	return journey_end(journey, packet_find(skb, journey, policy, hook), hook);
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	/* A mark of the pod's own is gone here. */
	if (skb->mark && packet_is_forwarded(skb)) {
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
		return pass(skb, REASON_PASS_FORWARDED);
	}
	return packet_enter(skb, skb->ifindex, HOOK_FROM_POD);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return packet_enter(skb, skb->ifindex, HOOK_TO_POD);
}

static __always_inline int process_packet(struct __sk_buff *skb, const enum hook hook)
{
	__u32 id = cgroup_endpoint();

	return id ? packet_enter(skb, id, hook) : CGROUP_ALLOW;
}

SEC("cgroup_skb/egress")
int from_process(struct __sk_buff *skb)
{
	return process_packet(skb, HOOK_FROM_PROCESS);
}

SEC("cgroup_skb/ingress")
int to_process(struct __sk_buff *skb)
{
	return process_packet(skb, HOOK_TO_PROCESS);
}

#endif
