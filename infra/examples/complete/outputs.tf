output "url" {
  description = "Where the API answers."
  value       = module.tarn.url
}

output "store" {
  description = "The store, as `tarn --store` takes it."
  value       = module.tarn.store
}

output "tarn" {
  description = "Everything the module tells."
  value       = module.tarn
}
