"""A sync-only middleware, as in many projects: asgiref moves each request to a thread and back."""


class SyncOnlyMiddleware:
    sync_capable = True
    async_capable = False

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)
