/* certificates.h: a CA and what it signs, made in a temporary folder. */
#ifndef SAGAPOST_TESTS_AMQP_CERTIFICATES_H
#define SAGAPOST_TESTS_AMQP_CERTIFICATES_H

struct certificates {
    char folder[64];
    char ca[160], other_ca[160];             /* the second has signed nothing */
    char server[160], server_key[160];       /* for localhost, 127.0.0.1 and ::1 */
    char elsewhere[160], elsewhere_key[160]; /* for the host elsewhere.example */
    char expired[160], expired_key[160];     /* for localhost, until yesterday */
    char client[160], client_key[160];
    char nonsense[160]; /* a file that is no certificate */
};

void certificates_make(struct certificates *certificates);
void certificates_remove(struct certificates *certificates);

#endif
