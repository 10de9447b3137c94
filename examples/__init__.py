"""Programs that use moard as its users do: through its public interfaces."""
