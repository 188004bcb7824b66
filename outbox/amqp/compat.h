/* compat.h: rabbitmq-c 0.11 to 0.16 under one name.
 *
 * From 0.12 on the headers live in rabbitmq-c/ and the old names only warn. We write to the API of
 * 0.11, the oldest one supported. */
#ifndef SAGAPOST_AMQP_COMPAT_H
#define SAGAPOST_AMQP_COMPAT_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#endif
