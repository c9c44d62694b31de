/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the same packets through two compiled objects, one after the other, and says where they do not do the same.
 *
 *   differential PLAN SEED FIRST EPISODES PACKETS EVERY
 *
 * An episode is a world of policy and the packets in it; it follows from the seed and its number alone, so that one can be run
 * again by itself. Compared are, for each packet: what the program returns, the packet's bytes and mark, where it is redirected, what
 * was counted, and the records in both rings; after an episode, what stands in the maps. Exit code 1 where anything differs.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <err.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Differences that are shown; after that many it is known that something is wrong. */
#define SHOWN_MAX 25
#define RECENT 6

struct run {
	struct plan plan;
	struct side sides[SIDES];
	struct random random;
	struct world world;
	struct traffic traffic;
	uint32_t interfaces[PODS + 1];
	uint64_t seed, packets, differences, mended, more_records, fewer_records, left[SIDES];
	uint64_t by_hook[HOOKS], by_reason[REASON_MAX];
	struct trial recent[RECENT];	/* the last ones, for who wants to know how it came to this */
	uint32_t recent_count;
	struct trial again;		/* a held packet that was decided */
	int has_again;
};

static void trial_print(const struct trial *trial)
{
	printf("    %s at %u (from %u, mark %x, gso %u, process %x) %u bytes ", hook_names[trial->hook], trial->ifindex, trial->ingress_ifindex,
	       trial->mark, trial->gso_size, trial->process, trial->length);
	for (uint32_t i = 0; i < trial->length; i++)
		printf("%02x", trial->bytes[i]);
	printf("\n");
}

static void outcome_print(const char *what, const struct outcome *outcome)
{
	printf("    %s: returns %d%s, mark %x, %u bytes", what, (int)outcome->returned, outcome->error ? " (no run)" : "", outcome->mark, outcome->length);
	if (outcome->left)
		printf(", %u buffers left in use", outcome->left);
	if (outcome->redirect.function)
		printf(", by function %u to %u (%llx)", outcome->redirect.function, outcome->redirect.ifindex, outcome->redirect.flags);
	printf("\n");
}

/* A buffer that the old one (a) left in use and the new one did not is a fault that is mended. */
static int outcome_same(const struct outcome *a, const struct outcome *b)
{
	return a->error == b->error && a->returned == b->returned && a->mark == b->mark && a->length == b->length &&
	       b->left <= a->left && !memcmp(a->answer, b->answer, sizeof(a->answer)) && !memcmp(a->bytes, b->bytes, a->length) &&
	       !memcmp(&a->redirect, &b->redirect, sizeof(a->redirect));
}

static int counters_same(const struct run *run)
{
	return !memcmp(run->sides[SIDE_OLD].counters, run->sides[SIDE_NEW].counters, REASON_MAX * sizeof(struct counter)) &&
	       !memcmp(run->sides[SIDE_OLD].verdict_hits, run->sides[SIDE_NEW].verdict_hits, ABI_PLUGINS_MAX * sizeof(struct counter));
}

/*
 * Before there were stages, a connection that its failure policy refused was counted twice where it was answered with a reset. Takes
 * that for the same, and says so in the end.
 */
static void counters_mend(struct run *run)
{
	struct counter *old = &run->sides[SIDE_OLD].counters[REASON_DROP_FAILURE_POLICY];
	const struct counter *new = &run->sides[SIDE_NEW].counters[REASON_DROP_FAILURE_POLICY];

	if (old->packets != new->packets + 1)
		return;
	*old = *new;
	run->mended++;
}

static void counters_print(const struct run *run)
{
	for (int reason = 0; reason < REASON_MAX; reason++) {
		const struct counter *old = &run->sides[SIDE_OLD].counters[reason], *new = &run->sides[SIDE_NEW].counters[reason];

		if (memcmp(old, new, sizeof(*old)))
			printf("    reason %d: counted %llu (%llu bytes), and %llu (%llu bytes) by the new one\n", reason, old->packets, old->bytes,
			       new->packets, new->bytes);
	}
}

/*
 * Since every drop leaves a record and an endpoint has a share of them, the new one writes some that the old one did not, and leaves out
 * some that count as lost. How many is said in the end; those that both write are compared.
 */
static int flow_records_same(struct run *run)
{
	const struct layout *layout = &run->plan.flow_record;
	uint32_t lengths[SIDES] = {}, at;
	const uint8_t *old = ring_next(&run->sides[SIDE_OLD].flow_records, &lengths[SIDE_OLD]);
	const uint8_t *new = ring_next(&run->sides[SIDE_NEW].flow_records, &lengths[SIDE_NEW]);
	int same = !old || !new || layout_same(layout, old, new, &at);

	run->more_records += new && !old;
	run->fewer_records += old && !new;
	if (!same)
		printf("  a record is not the same (at %u)\n", at);
	while (ring_next(&run->sides[SIDE_OLD].flow_records, &lengths[SIDE_OLD]))
		;
	while (ring_next(&run->sides[SIDE_NEW].flow_records, &lengths[SIDE_NEW]))
		;
	run->sides[SIDE_OLD].counters[REASON_FAIL_RECORD_LOST] = run->sides[SIDE_NEW].counters[REASON_FAIL_RECORD_LOST];
	run->sides[SIDE_OLD].counters[REASON_FAIL_RECORD_SHARE] = run->sides[SIDE_NEW].counters[REASON_FAIL_RECORD_SHARE];
	return same;
}

/* Takes every question from both; asked receives the last one. Returns whether they are the same. */
static int asks_same(struct run *run, struct ask *asked)
{
	const struct layout *layout = &run->plan.ask;

	for (;;) {
		uint32_t length, at;
		const uint8_t *old = ring_next(&run->sides[SIDE_OLD].asks, &length), *new = ring_next(&run->sides[SIDE_NEW].asks, &length);

		if (!old && !new)
			return 1;
		if (!old || !new) {
			printf("  a question that only the %s one asked\n", old ? "old" : "new");
			return 0;
		}
		if (!layout_same(layout, old, new, &at)) {
			printf("  a question is not the same (at %u)\n", at);
			return 0;
		}
		memcpy(asked, new, sizeof(*asked));
		if (memcmp(old + layout->size[SIDE_OLD], new + layout->size[SIDE_NEW], asked->length)) {
			printf("  the bytes of a held packet are not the same\n");
			return 0;
		}
	}
}

/* As the engine answers: with a verdict, or by sending the packet on with the decision in its mark. */
static void engine_answer(struct run *run, const struct trial *trial, const struct ask *ask)
{
	uint32_t way = random_below(&run->random, 4);

	if (way == 0)
		return;
	if (way == 1 || ask->context == CONTEXT_CONNECT || ask->context == CONTEXT_HTTP)
		world_decide(&run->world, ask);
	run->again = *trial;
	run->again.mark = way == 1 ? 0 : TOKEN + (way == 2 ? MARK_DECIDED : MARK_PASSED);
	run->has_again = 1;
}

static void recent_print(const struct run *run)
{
	printf("    before it:\n");
	for (uint32_t i = run->recent_count > RECENT ? run->recent_count - RECENT : 0; i < run->recent_count; i++)
		trial_print(&run->recent[i % RECENT]);
}

static void difference(struct run *run, uint32_t episode, uint32_t number, const struct trial *trial, const struct outcome outcomes[SIDES])
{
	if (run->differences++ >= SHOWN_MAX)
		return;
	printf("difference %lu: seed %lu, episode %u, packet %u\n", run->differences, run->seed, episode, number);
	trial_print(trial);
	outcome_print("old", &outcomes[SIDE_OLD]);
	outcome_print("new", &outcomes[SIDE_NEW]);
	counters_print(run);
	recent_print(run);
}

/* Returns whether both did the same. */
static int packet_run(struct run *run, uint32_t episode, uint32_t number)
{
	static struct trial trial;
	static struct outcome outcomes[SIDES];
	struct ask asked = {};
	int same;

	if (run->has_again)
		trial = run->again;
	else
		traffic_next(&run->traffic, &trial);
	run->has_again = 0;
	for (int id = SIDE_OLD; id < SIDES; id++) {
		side_run(&run->sides[id], &trial, &outcomes[id]);
		run->left[id] += outcomes[id].left;
	}
	run->packets++;
	run->by_hook[trial.hook]++;
	counters_mend(run);
	same = outcome_same(&outcomes[SIDE_OLD], &outcomes[SIDE_NEW]) & flow_records_same(run);
	same &= counters_same(run) & asks_same(run, &asked);
	if (!same) {
		difference(run, episode, number, &trial, outcomes);
		return 0;
	}
	run->recent[run->recent_count++ % RECENT] = trial;
	if (asked.length)
		engine_answer(run, &trial, &asked);
	return 1;
}

static void counters_take(struct run *run)
{
	for (int reason = 0; reason < REASON_MAX; reason++)
		run->by_reason[reason] += run->sides[SIDE_OLD].counters[reason].packets;
	for (int id = SIDE_OLD; id < SIDES; id++) {
		memset(run->sides[id].counters, 0, REASON_MAX * sizeof(struct counter));
		memset(run->sides[id].verdict_hits, 0, ABI_PLUGINS_MAX * sizeof(struct counter));
	}
}

/* With every, maps are compared each so many packets, too: what went wrong long before it is seen is found so. */
static void episode_run(struct run *run, uint32_t episode, uint32_t packets, uint32_t every)
{
	uint32_t number = 0;

	run->random.state = run->seed * 0x9e3779b97f4a7c15ull ^ (uint64_t)episode << 20;
	sides_clear(run->sides);
	counters_take(run);
	run->has_again = 0;
	run->recent_count = 0;
	world_make(&run->world, run->sides, &run->random, run->interfaces);
	traffic_begin(&run->traffic, &run->world);
	for (; number < packets; number++) {
		if (!random_below(&run->random, 150))
			world_change(&run->world);
		if (!packet_run(run, episode, number))
			return;
		if ((number + 1 == packets || (every && number % every == 0)) && sides_compare(run->sides)) {
			printf("difference %lu: seed %lu, episode %u, in the maps after packet %u\n", ++run->differences, run->seed, episode, number);
			recent_print(run);
			return;
		}
	}
}

/* A network of this process's own, where every interface that packets name is one. */
static void network_make(struct run *run)
{
	static const char *const names[PODS + 1] = { "pod0", "pod1", "pod2", "proxy" };

	if (unshare(CLONE_NEWNET))
		err(2, "cannot make a network namespace");
	if (system("ip link set lo up; for each in pod0 pod1 pod2 proxy; do ip link add $each type veth peer name peer-$each && ip link set $each up &&"
		   " ip link set peer-$each up; done;"
		   "ip route add 10.0.0.0/8 dev pod0; ip -6 route add fd00::/16 dev pod0; ip route add default dev pod1"))
		errx(2, "cannot make interfaces");
	for (int i = 0; i <= PODS; i++)
		if (!(run->interfaces[i] = if_nametoindex(names[i])))
			err(2, "cannot find interface %s", names[i]);
}

static void summary_print(const struct run *run, double seconds)
{
	uint32_t reasons = 0;

	printf("%lu packets, %lu differences, %.1f s (%.1f us a packet)\n", run->packets, run->differences, seconds, seconds * 1e6 / (double)run->packets);
	for (int hook = 0; hook < HOOKS; hook++)
		printf("  %s %lu", hook_names[hook], run->by_hook[hook]);
	printf("\n  counted twice by the old one: %lu", run->mended);
	printf("\n  records that only the new one wrote: %lu; only the old one: %lu", run->more_records, run->fewer_records);
	printf("\n  buffers left in use: %lu by the old one, %lu by the new one", run->left[SIDE_OLD], run->left[SIDE_NEW]);
	printf("\n  reasons met:");
	for (int reason = 0; reason < REASON_MAX; reason++)
		if (run->by_reason[reason] && ++reasons)
			printf(" %d:%lu", reason, run->by_reason[reason]);
	printf(" (%u)\n", reasons);
}

int main(int count, char **arguments)
{
	static struct run run;
	struct timespec begin, end;
	uint32_t first, episodes, packets;

	if (count != 7)
		errx(2, "usage: differential PLAN SEED FIRST EPISODES PACKETS EVERY");
	setvbuf(stdout, NULL, _IOLBF, 0);
	plan_read(&run.plan, arguments[1]);
	run.seed = strtoull(arguments[2], NULL, 10);
	first = (uint32_t)atoi(arguments[3]);
	episodes = (uint32_t)atoi(arguments[4]);
	packets = (uint32_t)atoi(arguments[5]);
	network_make(&run);
	patch_begin();
	for (int id = SIDE_OLD; id < SIDES; id++)
		side_load(&run.sides[id], &run.plan, id);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (uint32_t episode = first; episode < first + episodes && run.differences < SHOWN_MAX; episode++)
		episode_run(&run, episode, packets, (uint32_t)atoi(arguments[6]));
	counters_take(&run);
	clock_gettime(CLOCK_MONOTONIC, &end);
	summary_print(&run, (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	return run.differences != 0;
}
