/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of sockets. One that is free again is given out only when no event can name who had it before. */
#include "sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROOM_FIRST 1024

static int table_grow(struct sluice_sockets *sockets)
{
	uint32_t room = sockets->room ? sockets->room * 2 : ROOM_FIRST;
	struct proxy_socket *grown = realloc(sockets->table, room * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	sockets->table = grown;
	sockets->room = room;
	return 0;
}

/* Returns a number that nobody has, NO_SOCKET where there is no memory. */
static uint32_t table_take(struct sluice_sockets *sockets)
{
	uint32_t id = sockets->free;

	if (id != NO_SOCKET) {
		sockets->free = sockets->table[id].next_free;
		return id;
	}
	if (sockets->count == sockets->room && table_grow(sockets))
		return NO_SOCKET;
	return sockets->count++;
}

int table_add(struct sluice_sockets *sockets, int fd, enum socket_state state)
{
	struct epoll_event event = { .events = EPOLLIN | (state == SOCKET_CONNECTING ? EPOLLOUT : 0) };
	uint32_t id = table_take(sockets);
	struct proxy_socket *socket;
	int error;

	if (id == NO_SOCKET) {
		close(fd);
		return -ENOMEM;
	}
	socket = &sockets->table[id];
	*socket = (struct proxy_socket){ .fd = fd, .state = SOCKET_FREE, .watched = event.events };
	event.data.u32 = id;
	if (!epoll_ctl(sockets->epoll, EPOLL_CTL_ADD, fd, &event)) {
		socket_become(socket, state);
		return (int)id;
	}
	error = -errno;
	close(fd);
	socket->next_free = sockets->free;
	sockets->free = id;
	return error;
}

void table_free(struct sluice_sockets *sockets, uint32_t id)
{
	struct proxy_socket *socket = &sockets->table[id];

	backlog_forget(&socket->backlog, &sockets->waiting);
	socket_become(socket, SOCKET_FREE);
	socket->next_free = sockets->freed;
	sockets->freed = id;
}

void table_reuse(struct sluice_sockets *sockets)
{
	while (sockets->freed != NO_SOCKET) {
		uint32_t id = sockets->freed;

		sockets->freed = sockets->table[id].next_free;
		sockets->table[id].next_free = sockets->free;
		sockets->free = id;
	}
}

struct proxy_socket *table_find(struct sluice_sockets *sockets, uint32_t id)
{
	return id < sockets->count && sockets->table[id].state != SOCKET_FREE ? &sockets->table[id] : NULL;
}
