#pragma once

#define CURL_DISABLE_TYPECHECK
#include <archive.h>
#include <archive_entry.h>
#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Libraries that only a fetch needs, loaded when it does: linked, they would cost each start 5 ms and the launcher 8 MB.

/// Each returns NULL, or why the library can't be loaded.
const char *cload_curl(void);
const char *cload_archive(void);
const char *cload_crypto(void);
const char *cload_zlib(void);

// libcurl, as it is but for the functions with a variable number of arguments.

CURL *ccurl_easy(void);
void ccurl_easy_free(CURL *easy);
void ccurl_set_text(CURL *easy, CURLoption option, const char *value);
void ccurl_set_number(CURL *easy, CURLoption option, int64_t value);
void ccurl_set_list(CURL *easy, CURLoption option, struct curl_slist *list);
void ccurl_set_context(CURL *easy, CURLoption option, void *context);
typedef size_t (*ccurl_receiver)(char *bytes, size_t size, size_t count, void *context);
void ccurl_set_receiver(CURL *easy, CURLoption option, ccurl_receiver receiver);
int64_t ccurl_number(CURL *easy, CURLINFO info);
int64_t ccurl_offset(CURL *easy, CURLINFO info);
const char *ccurl_text(CURL *easy, CURLINFO info);
const char *ccurl_error(CURLcode code);
/// Seconds since 1970 of a date as HTTP writes it, or -1.
int64_t ccurl_date(const char *text);
struct curl_slist *ccurl_append(struct curl_slist *list, const char *text);
void ccurl_list_free(struct curl_slist *list);

CURLM *ccurl_multi(void);
void ccurl_multi_free(CURLM *multi);
void ccurl_multi_add(CURLM *multi, CURL *easy);
void ccurl_multi_remove(CURLM *multi, CURL *easy);
typedef int (*ccurl_socket_watcher)(CURL *easy, curl_socket_t socket, int what, void *context, void *socket_context);
typedef int (*ccurl_timer_setter)(CURLM *multi, long milliseconds, void *context);
void ccurl_multi_watch(CURLM *multi, ccurl_socket_watcher watcher, ccurl_timer_setter setter, void *context);
/// What happened to a socket, or to the timer when it is CURL_SOCKET_TIMEOUT.
void ccurl_multi_act(CURLM *multi, curl_socket_t socket, int events);
/// The next transfer that has ended, or NULL.
CURL *ccurl_multi_ended(CURLM *multi, CURLcode *result);

// libarchive: what unpacks, by what it finds in the content.

typedef ssize_t (*carchive_reader)(struct archive *archive, void *context, const void **buffer);
typedef int64_t (*carchive_seeker)(struct archive *archive, void *context, int64_t offset, int whence);
/// Without a seeker the content is only read forwards. NULL when there is no memory.
struct archive *carchive_open(void *context, carchive_reader reader, carchive_seeker seeker, int *result);
/// One packed stream, which is one file without a name; the filter is one of ARCHIVE_FILTER_….
struct archive *carchive_unpack(void *context, carchive_reader reader, int filter, int *result);
/// ARCHIVE_OK, ARCHIVE_EOF or worse; `name` is only ever shown or compared. A size of -1 is not known.
int carchive_next(struct archive *archive, const char **name, int64_t *size, bool *is_file);
int carchive_block(struct archive *archive, const void **buffer, size_t *size, int64_t *offset);
const char *carchive_error(struct archive *archive);
/// Whether it is nothing but one file.
bool carchive_is_single(struct archive *archive);
/// How much of the packed stream belongs to what was unpacked so far.
int64_t carchive_consumed(struct archive *archive);
void carchive_free(struct archive *archive);

// zlib, since libarchive reads gzip without a look at its checksums.

typedef struct cgzip cgzip;
cgzip *cgzip_open(void);
enum { CGZIP_MORE, CGZIP_END, CGZIP_BROKEN };
/// Unpacks some of `input` into `output`; tells how much of either was used.
int cgzip_read(cgzip *gzip, const void *input, size_t *input_size, void *output, size_t *output_size);
void cgzip_free(cgzip *gzip);

// libcrypto's digests, whose state is plain bytes that can be kept and taken up again.

enum { CDIGEST_SHA256 = 256, CDIGEST_SHA512 = 512, CDIGEST_STATE = 216, CDIGEST_LONGEST = 64 };
void cdigest_begin(int kind, void *state);
/// Whether bytes that were kept can be a state after so many others.
bool cdigest_is_sound(int kind, const void *state, uint64_t offset);
void cdigest_add(int kind, void *state, const void *bytes, size_t count);
/// The length of the digest.
int cdigest_finish(int kind, void *state, unsigned char *digest);

/// An enumeration in some versions of libcurl, and a number in others.
enum { CCURL_NETRC_OPTIONAL = CURL_NETRC_OPTIONAL };
