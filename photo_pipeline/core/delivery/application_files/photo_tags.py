"""Django's template tag and filter for photos; lies in `templatetags/`, beside photos.py.

{% load photo_tags %}
{% picture item.photo alt=item.title width=item.photo_width height=item.photo_height class_="card" %}
<a href="{{ item.photo|photo_url }}">full size</a>
"""

from django import template

from .photos import picture, resolve_photo_url

register = template.Library()
register.simple_tag(picture)
register.filter("photo_url", resolve_photo_url)
