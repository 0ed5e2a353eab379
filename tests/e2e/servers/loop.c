// A server with one thread, an event loop that acts on its timer, and on what others have left to it, behind what it has
// read, as most do: and so makes calls for nobody while it has a request that it has not answered yet.
//
//   loop PORT ASKED
//
// /plain-N makes a call, as soon as it is read. /timer-N is busy until the timer is due, /woken-N until another thread has
// left a task: that makes a call for nobody, and then they are answered. Calls are /asked/<path>, for nobody /alone/<N>.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD = 500 }; // ms

static struct sockaddr_in other = {.sin_family = AF_INET};
static int asked, waker, due, pending = -1;
static atomic_int left, wanted;

static int now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void call(const char *kind, const char *path)
{
	char text[256];
	int size = snprintf(text, sizeof(text), "GET /%s%s HTTP/1.1\r\nHost: asked\r\n\r\n", kind, path);

	if (write(asked, text, size) != size)
		exit(1);
	for (char *end = text; end - text < 3 || memcmp(end - 3, "yes", 3); end += size) { // of the body
		size = read(asked, end, text + sizeof(text) - end);
		if (size <= 0)
			exit(1);
	}
}

static void call_for_nobody(void)
{
	static int number;
	char path[16];

	snprintf(path, sizeof(path), "/%d", number++);
	call("alone", path);
}

static void answer(int client)
{
	if (client >= 0)
		dprintf(client, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
}

static void *leave_tasks(void *none)
{
	for (;;) {
		if (atomic_exchange(&wanted, 0)) {
			uint64_t one = 1;
			if (write(waker, &one, sizeof(one)) < 0)
				exit(1);
			left = 1;
		}
		usleep(100);
	}
	return none;
}

// Returns whether the client is still there.
static int serve(int client)
{
	char text[1024], path[64];
	ssize_t size = read(client, text, sizeof(text) - 1);

	if (size <= 0)
		return 0;
	text[size] = 0;
	sscanf(text, "GET %63s", path);
	if (!strncmp(path, "/plain", 6)) {
		call("asked", path);
		answer(client);
		return 1;
	}
	pending = client;
	if (!strncmp(path, "/woken", 6))
		wanted = 1;
	while (path[1] == 'w' ? !left : now() < due)
		;
	return 1;
}

int main(int count, char **words)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), all = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	uint64_t woken;

	other.sin_port = htons(atoi(words[2]));
	own.sin_addr.s_addr = other.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (count != 3 || bind(listener, (struct sockaddr *)&own, sizeof(own)) || listen(listener, 128))
		return 1;
	asked = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(asked, (struct sockaddr *)&other, sizeof(other)))
		return 1;
	waker = event.data.fd = eventfd(0, EFD_NONBLOCK);
	epoll_ctl(all, EPOLL_CTL_ADD, waker, &event);
	event.data.fd = listener;
	epoll_ctl(all, EPOLL_CTL_ADD, listener, &event);
	pthread_create(&(pthread_t){0}, NULL, leave_tasks, NULL);
	puts("up");
	fflush(stdout);
	due = now() + PERIOD;
	for (;;) {
		int rest = due - now();

		if (epoll_wait(all, &event, 1, rest > 0 ? rest : 0) > 0) {
			int ready = event.data.fd;

			if (ready == listener) {
				event.data.fd = accept(listener, NULL, NULL);
				epoll_ctl(all, EPOLL_CTL_ADD, event.data.fd, &event);
			} else if (ready == waker) {
				if (read(waker, &woken, sizeof(woken)) < 0)
					return 1;
			} else if (!serve(ready)) {
				close(ready);
			}
		}
		if (now() >= due || atomic_exchange(&left, 0)) {
			if (now() >= due)
				due = now() + PERIOD;
			call_for_nobody();
			answer(pending);
			pending = -1;
		}
	}
}
