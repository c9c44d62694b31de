/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages, mostly as they should be. */
#ifndef DIFFERENTIAL_MESSAGE_H
#define DIFFERENTIAL_MESSAGE_H

#include "plan.h"
#include "random.h"

/* Writes the query of a type about a name; below: with a label in front of it. Returns its length. */
uint32_t message_query(uint8_t *bytes, const struct plan_name *name, uint16_t id, uint16_t type, int below);
/* Makes the query its answer, with addresses at the end of chains; returns the new length. */
uint32_t message_answer(uint8_t *bytes, uint32_t length, uint16_t type, struct random *random);
/* Breaks a message; returns its length. */
uint32_t message_spoil(uint8_t *bytes, uint32_t length, struct random *random);

#endif
