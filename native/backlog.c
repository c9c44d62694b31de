/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that sockets do not take yet, and the bound for all of them: who would go beyond it is broken off. */
#include "sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TOTAL_MAX (256u * 1024 * 1024)

uint32_t backlog_length(const struct backlog *backlog)
{
	return backlog->to - backlog->from;
}

void backlog_forget(struct backlog *backlog, uint32_t *total)
{
	*total -= backlog_length(backlog);
	free(backlog->bytes);
	*backlog = (struct backlog){};
}

/* Makes room for more behind what there is. */
static int backlog_grow(struct backlog *backlog, uint32_t length)
{
	uint32_t kept = backlog_length(backlog), room = 2 * (kept + length);
	uint8_t *grown = malloc(room);

	if (!grown)
		return -ENOMEM;
	if (kept)
		memcpy(grown, backlog->bytes + backlog->from, kept);
	free(backlog->bytes);
	*backlog = (struct backlog){ .bytes = grown, .to = kept, .room = room };
	return 0;
}

int backlog_keep(struct backlog *backlog, uint32_t *total, const uint8_t *bytes, uint32_t length)
{
	if (*total + length > TOTAL_MAX)
		return -ENOBUFS;
	if (!backlog_length(backlog))
		backlog->from = backlog->to = 0;
	if (backlog->to + length > backlog->room && backlog_grow(backlog, length))
		return -ENOMEM;
	memcpy(backlog->bytes + backlog->to, bytes, length);
	backlog->to += length;
	*total += length;
	return 0;
}

int backlog_send(struct backlog *backlog, uint32_t *total, int fd)
{
	while (backlog_length(backlog)) {
		ssize_t sent = send(fd, backlog->bytes + backlog->from, backlog_length(backlog), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0)
			return errno == EAGAIN ? 0 : -errno;
		backlog->from += (uint32_t)sent;
		*total -= (uint32_t)sent;
	}
	return 0;
}
