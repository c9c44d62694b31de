/* SPDX-License-Identifier: Apache-2.0 */
/* Packets as endpoints meet them: conversations that go on from packet to packet, and what breaks into them. */
#ifndef DIFFERENTIAL_TRAFFIC_H
#define DIFFERENTIAL_TRAFFIC_H

#include "world.h"

#define TALKS 96

/* Who sends. */
enum speaker {
	SPEAKER_ENDPOINT,
	SPEAKER_REMOTE,
};

/* A conversation of one endpoint. */
struct talk {
	struct home *home;
	struct address local, remote;
	uint8_t protocol;
	uint8_t opener;		/* enum speaker */
	uint16_t local_port, remote_port;
	uint32_t step;
	uint32_t sequence[2];	/* by enum speaker: what it says next */
	uint16_t dns_id;
	uint32_t dns_name;
	uint16_t dns_type;
};

struct traffic {
	struct world *world;
	struct random *random;
	struct talk talks[TALKS];
	uint8_t payload[2048];
};

void traffic_begin(struct traffic *traffic, struct world *world);
/* The next packet. */
void traffic_next(struct traffic *traffic, struct trial *trial);

#endif
