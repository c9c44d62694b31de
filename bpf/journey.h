/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The state of one packet on its way through the stages, and how one stage enters the next.
 *
 * The record stands in memory of this CPU. Programs of interfaces run one after another there, and share one. Those of processes
 * may be interrupted, by interfaces' and by each other's: each takes a record of its own while it runs, whose number travels in
 * cb. Nobody waits: where none is left, the packet is dropped and counted.
 */
#ifndef SLUICE_JOURNEY_H
#define SLUICE_JOURNEY_H

#include "conntrack.h"
#include "judgement.h"
#include "maps.h"
#include "packet.h"
#include "stages.h"

/* Where a program is attached: in which direction of an endpoint, and of which kind that is. A constant in each program. */
enum hook {
	HOOK_FROM_POD,
	HOOK_TO_POD,
	HOOK_FROM_PROCESS,
	HOOK_TO_PROCESS,
};

enum found {
	FOUND_NOTHING,
	FOUND_ANSWERED,		/* in the map of connections */
	FOUND_OPENING,		/* in its slot, of which this record has a copy */
};

/* A packet that an ICMP error is about, and its connection. */
struct quote {
	struct packet packet;
	struct connection_key key;
	struct connection copy;
};

struct journey {
	__u32 busy;			/* a process's packet has this record */
	__u32 endpoint;			/* its id */
	/* Zero when a journey begins. */
	struct packet packet;
	struct connection_key key;
	__u64 now_ns;			/* coarse */
	struct judged judged;
	__u32 slot;			/* where its key may stand among the openings */
	__u32 reason;			/* enum reason: of the verdict so far */
	__u32 rule;			/* that denies it */
	__u32 backend_set;		/* whose backend it is to go to */
	__u8 denied;			/* the verdict so far */
	__u8 parsed;			/* enum parsed */
	__u8 found;			/* enum found */
	__u8 has_slot;
	__u8 answer;			/* of the side that did not open the connection */
	__u8 failed_open;		/* its failure policy has been asked, since it cannot be held */
	__u8 decided;			/* enum decided: what the engine said of it */
	__u8 signposted;		/* its connection to a Service has a backend already */
	__u8 quotes;			/* it is an error about a packet to a backend, of which the endpoint knows the Service */
	__u8 stray;			/* policy allows every backend that its connection may have */
	__u8 pad[2];
	/* Written before they are read. */
	struct connection copy;
	struct translation backend;	/* that it is to be given */
	struct judgement judgement;
	struct ask ask;
	struct quote quote;
};

/* Interfaces' programs have the first, processes' the others: so many may interrupt each other. */
#define JOURNEYS 9

/* Pinned: while an engine takes over, programs of both lead into the same stages. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, JOURNEYS);
	__type(key, __u32);
	__type(value, struct journey);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} journeys SEC(".maps");

static __always_inline enum direction hook_direction(const enum hook hook)
{
	return hook == HOOK_FROM_POD || hook == HOOK_FROM_PROCESS ? DIRECTION_EGRESS : DIRECTION_INGRESS;
}

static __always_inline int hook_is_interface(const enum hook hook)
{
	return hook == HOOK_FROM_POD || hook == HOOK_TO_POD;
}

/* Bytes in front of the network header. */
static __always_inline __u32 hook_link_header(const enum hook hook)
{
	return hook_is_interface(hook) ? sizeof(struct ethhdr) : 0;
}

static __always_inline void journey_clear(struct journey *journey, __u32 endpoint)
{
	journey->endpoint = endpoint;
	__builtin_memset(&journey->packet, 0, offsetof(struct journey, copy) - offsetof(struct journey, packet));
}

/* Takes a record for what a process does; NULL when none is left. Leaves its number. */
static __always_inline struct journey *journey_take(__u32 endpoint, __u32 *number)
{
	for (__u32 i = 1; i < JOURNEYS; i++) {
		__u32 index = i;
		struct journey *journey = bpf_map_lookup_elem(&journeys, &index);

		if (!journey || __sync_val_compare_and_swap(&journey->busy, 0, 1))
			continue;
		journey_clear(journey, endpoint);
		*number = i;
		return journey;
	}
	return NULL;
}

/* Takes a record for a packet; NULL when none is left. To be given back with journey_end. */
static __always_inline struct journey *journey_begin(struct __sk_buff *skb, __u32 endpoint, const enum hook hook)
{
	struct journey *journey;
	__u32 number = 0;

	if (!hook_is_interface(hook)) {
		journey = journey_take(endpoint, &number);
		skb->cb[0] = number;
		return journey;
	}
	journey = bpf_map_lookup_elem(&journeys, &number);
	if (journey)
		journey_clear(journey, endpoint);
	return journey;
}

/* The endpoint that the cgroup of the running program is, or 0. */
static __always_inline __u32 cgroup_endpoint(void)
{
	__u64 *id = bpf_get_local_storage(&cgroup_ids, 0);

	return *id;
}

/*
 * The record of a packet that has just entered this stage. NULL is not possible.
 *
 * A program on cgroups looks its endpoint up once more: the kernel lets those lead on from one to another only if all of them use
 * the same cgroup storage (since 6.17).
 */
static __always_inline struct journey *journey_resume(struct __sk_buff *skb, const enum hook hook)
{
	__u32 number = hook_is_interface(hook) ? 0 : skb->cb[0];
	struct journey *journey = bpf_map_lookup_elem(&journeys, &number);

	if (journey && !hook_is_interface(hook))
		journey->endpoint = cgroup_endpoint();
	return journey;
}

/* An outcome in the words of the hook's programs. */
static __always_inline int hook_outcome(int outcome, const enum hook hook)
{
	if (hook_is_interface(hook))
		return outcome;
	return outcome == OUTCOME_DROP ? CGROUP_DENY : CGROUP_ALLOW;
}

static __always_inline void journey_give(struct journey *journey)
{
	*(volatile __u32 *)&journey->busy = 0;
}

/* Gives back the record: the packet's way ends in this program. */
static __always_inline int journey_end(struct journey *journey, int outcome, const enum hook hook)
{
	if (!hook_is_interface(hook))
		journey_give(journey);
	return hook_outcome(outcome, hook);
}

/* The verdict so far: it passes for this reason. */
static __always_inline void journey_allow(struct journey *journey, enum reason reason)
{
	journey->denied = 0;
	journey->rule = 0;
	journey->reason = reason;
}

static __always_inline void journey_deny(struct journey *journey, enum reason reason, __u32 rule)
{
	journey->denied = 1;
	journey->rule = rule;
	journey->reason = reason;
}

/*
 * enter_<stage>(skb) goes on with a stage, and returns only where that is not there. Map and number stand beside the call,
 * where the test finds them.
 */
#define STAGE_ENTER(program, array, ...)                                                                       \
	static __always_inline void enter_##program(struct __sk_buff *skb)                                     \
	{                                                                                                      \
		asm volatile("r1 = %[skb]\n\tr2 = %[map] ll\n\tr3 = %[stage]\n\tcall 12"                       \
			     :: [skb] "r"(skb), [map] "i"(&array), [stage] "i"(STAGE_##program)                \
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");                                   \
	}
STAGES(STAGE_ENTER)

/* The one of four twins that follows a hook. */
#define STAGE_ENTER_TWIN(stage)                                                                 \
	static __always_inline void enter_##stage(struct __sk_buff *skb, const enum hook hook)  \
	{                                                                                       \
		if (hook == HOOK_FROM_POD)                                                      \
			enter_##stage##_from_pod(skb);                                          \
		else if (hook == HOOK_TO_POD)                                                   \
			enter_##stage##_to_pod(skb);                                            \
		else if (hook == HOOK_FROM_PROCESS)                                             \
			enter_##stage##_sent(skb);                                              \
		else                                                                            \
			enter_##stage##_received(skb);                                          \
	}
STAGE_ENTER_TWIN(judge)
STAGE_ENTER_TWIN(ask)
STAGE_ENTER_TWIN(dns)

/*
 * Whether what the pod sends is to go to a backend of a Service. All that is decided about it is decided about the packet of its journey,
 * which has the backend's address from then on; its bytes get it last of all.
 */
static __always_inline int journey_has_backend(const struct journey *journey)
{
	return journey->judged.path & FLOW_PATH_BACKEND;
}

/* Gives what the pod sends to a Service a backend. */
static __always_inline void journey_give_backend(struct journey *journey, const struct translation *backend)
{
	struct translation *service = &journey->judged.other;
	struct packet *packet = &journey->packet;

	__builtin_memcpy(service->address, packet->destination, 16);
	service->port = packet->destination_port;
	__builtin_memcpy(packet->destination, backend->address, 16);
	packet->destination_port = backend->port;
	journey->judged.path = FLOW_PATH_BACKEND;
}

/* Takes it back: the packet is one to the Service again, as its bytes say. */
static __always_inline void journey_take_backend(struct journey *journey)
{
	const struct translation *service = &journey->judged.other;
	struct packet *packet = &journey->packet;

	if (!journey_has_backend(journey))
		return;
	__builtin_memcpy(packet->destination, service->address, 16);
	packet->destination_port = service->port;
	journey->judged.path &= ~FLOW_PATH_BACKEND;
}

/* A connection as the packet of a journey finds it. */
static __always_inline void tracking_fill(struct tracking *tracking, struct journey *journey, const struct policy_state *policy)
{
	tracking->packet = &journey->packet;
	tracking->policy = policy;
	tracking->key = &journey->key;
	tracking->copy = &journey->copy;
	tracking->connection = NULL;
	tracking->slot = NULL;
	tracking->now_ns = journey->now_ns;
}

/* Begins to look for the connection of a journey's packet. */
static __always_inline void tracking_begin(struct tracking *tracking, struct journey *journey, const struct policy_state *policy,
					   enum direction direction)
{
	journey->now_ns = bpf_ktime_get_coarse_ns();
	connection_key_fill(&journey->key, &journey->packet, journey->endpoint, direction);
	tracking_fill(tracking, journey, policy);
}

/* Leaves what was found for the next stage. */
static __always_inline void tracking_leave(const struct tracking *tracking, struct journey *journey)
{
	journey->has_slot = tracking->slot != NULL;
	journey->slot = tracking->index;
	journey->found = !tracking->connection ? FOUND_NOTHING : tracking->slot ? FOUND_OPENING : FOUND_ANSWERED;
}

/* Finds again what the stage before has found; an answered connection may have left its map meanwhile. */
static __always_inline void tracking_resume(struct tracking *tracking, struct journey *journey, const struct policy_state *policy)
{
	tracking_fill(tracking, journey, policy);
	tracking->index = journey->slot;
	if (journey->has_slot)
		tracking->slot = bpf_map_lookup_elem(&openings, &tracking->index);
	if (journey->found == FOUND_ANSWERED)
		tracking->connection = bpf_map_lookup_elem(&connections, &journey->key);
	else if (journey->found == FOUND_OPENING)
		tracking->connection = &journey->copy;
}

#endif
